//! The schema as clients know it. A change shows in the golden file, and is a decision.

use std::{env, fs, path::Path};

#[test]
fn the_schema_is_the_golden_one() {
    let path = Path::new("../tests/golden/schema.graphql");
    let sdl = crate::graphql::sdl();

    if env::var_os("DIARIO_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &sdl).unwrap();
    }

    let golden = fs::read_to_string(path).unwrap_or_default();
    assert!(golden == sdl, "the schema changed: look at it, then run again with DIARIO_BLESS=1");
}
