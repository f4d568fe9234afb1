//! The only place that prints: results to standard output, errors to standard error.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is where printing is done")]

/// Prints a line of a result.
pub fn line(text: impl std::fmt::Display) {
    println!("{text}");
}

/// Prints a line of a result that a reader may stop taking, as `head` does.
///
/// # Errors
/// When standard output takes no more.
pub fn try_line(text: impl std::fmt::Display) -> std::io::Result<()> {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{text}")
}

/// Prints an error with its causes, in one line.
pub fn error(failure: &anyhow::Error) {
    eprintln!("diario: {failure:#}");
}

/// Prints a line of progress, beside the result.
pub fn progress(text: impl std::fmt::Display) {
    eprintln!("{text}");
}
