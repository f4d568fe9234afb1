//! Where random bytes come from: the operating system, or a seed in a simulation.

use std::sync::atomic::{AtomicU64, Ordering};

use rand::{TryRng as _, rngs::SysRng};
use sha2::{Digest as _, Sha256};

use super::Error;

/// A source of random bytes.
pub trait Entropy: Send + Sync + std::fmt::Debug {
    /// Fills a buffer.
    ///
    /// # Errors
    /// [`Error::Entropy`] when the source fails.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), Error>;
}

/// The operating system's generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), Error> {
        SysRng.try_fill_bytes(buffer).map_err(|failure| Error::Entropy(failure.to_string()))
    }
}

/// The same bytes for the same seed. Never for real secrets.
#[derive(Debug)]
pub struct SeededEntropy {
    seed: u64,
    drawn: AtomicU64,
}

impl SeededEntropy {
    /// A source that begins at a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, drawn: AtomicU64::new(0) }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), Error> {
        for chunk in buffer.chunks_mut(32) {
            let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
            let block = Sha256::new()
                .chain_update(self.seed.to_be_bytes())
                .chain_update(drawn.to_be_bytes())
                .finalize();
            for (byte, random) in chunk.iter_mut().zip(block) {
                *byte = random;
            }
        }
        Ok(())
    }
}
