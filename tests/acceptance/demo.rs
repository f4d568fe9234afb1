//! The demo, as a newcomer runs it.

use crate::harness::{cell_of, diario, folder, left_on_machine, told};

#[test]
fn the_demo_shows_every_step_and_leaves_nothing_behind() {
    let folder = folder();

    let output = diario()
        .args(["dev", "--demo", "--once", "--fresh", "--port", "0", "--router-port", "0"])
        .arg("--data-dir")
        .arg(folder.path())
        .output()
        .unwrap();

    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", told(&output));
    for step in ["desire to routable:", "SIGKILL", "restarted as", "diff @", "Try it:"] {
        assert!(shown.contains(step), "the demo did not show {step:?}: {shown}");
    }
    assert_eq!(left_on_machine(&cell_of(folder.path())), Vec::<String>::new());
}
