//! `diario simulate`: many clusters in virtual time, in which everything breaks that may break.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use serde_json::json;

use super::{Error, Outcome, Print, lrp_file, progress_bar::counting};
use crate::simulation::{
    Config, Faults, Manifest, ManifestSpec, Report, STEPS_MAX, Shrunk, StepSet, run_seeds, shrink,
};

/// How many failing seeds are made small; each costs up to 400 runs.
const SHRUNK_MAX: usize = 3;

pub(super) const EXAMPLES: &str = "Examples:
  diario simulate
  diario simulate --seeds 10000 --from-seed 1000
  diario simulate --faults none --manifest apps.yaml
  diario simulate --without power_failed,clock_jumped --cells 20
Each seed is a cluster of its own: nodes, cells and users in virtual time, driven by the product's
own rules. After its steps nothing breaks any more, and all must settle. The same seed gives the
same run. A seed that fails is made small and printed with what led to it; exit code 1.

A file of --faults, in YAML or JSON (what is absent is as by default):
  agent_killed: 50        # weights of steps, beside 880 of ordinary ones
  node_killed: 0
  message_lost: 30        # of 1,000
Kinds: agent_killed, power_failed, machine_replaced, many_cells_lost, machine_cut_off, node_killed,
node_cut_off, loops_doubled, clock_jumped, store_slow, message_lost, message_doubled, message_late,
append_failed, append_unanswered.

A file of --manifest:
  cells:                  # random ones when absent
    - {count: 3, memory_mb: 4096, disk_mb: 8192, containers: 250, zone: z1}
  lrps: []                # each as `diario lrp desire` takes it
  tasks: []               # each as `diario task run` takes it";

/// What is simulated.
#[derive(Debug, Args)]
pub struct Options {
    /// How many seeds are run.
    #[arg(long, value_name = "N", default_value_t = 100)]
    seeds: u64,
    /// The first one.
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    from_seed: u64,
    /// How many control-plane nodes there are.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,
    /// How many cells there are.
    #[arg(long, value_name = "C", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=1000))]
    cells: u32,
    /// How many steps are taken before all faults end.
    #[arg(long, value_name = "T", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=i64::from(STEPS_MAX)))]
    steps: u32,
    /// How many apps users play with.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=1000))]
    lrps: u32,
    /// How many tasks they play with.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(0..=1000))]
    tasks: u32,
    /// What breaks, and how often: none, default, or a file.
    #[arg(long, value_name = "none|default|FILE", default_value = "default")]
    faults: String,
    /// Kinds of faults that are left out, with commas between.
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    without: Vec<String>,
    /// Steps that are left out, as a failing seed that was made small prints them.
    #[arg(long, value_name = "STEPS", default_value = "")]
    left_out: StepSet,
    /// Your own apps, tasks and cells instead of random ones.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Append failing runs, made small, to this file, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    keep: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options, print: &Print) -> Result<Outcome, Error> {
    let (config, began_with) = config(options)?;
    let bar = counting("seeds", options.seeds);
    let report = run_seeds(&config, options.seeds, |done, failure| {
        if let Some(failure) = failure {
            bar.println(format!("seed {} fails: {}", failure.seed, failure.invariant));
        }
        bar.set_position(done);
        ControlFlow::Continue(())
    });
    bar.finish_and_clear();
    let shrunk: Vec<Shrunk> = report
        .failures
        .iter()
        .take(SHRUNK_MAX)
        .map(|failure| shrink(&Config { seed: failure.seed, ..config.clone() }, failure))
        .collect();
    if let Some(file) = &options.keep {
        keep(file, &shrunk).map_err(|source| Error::KeepRuns { path: file.clone(), source })?;
    }
    let told = if options.json {
        in_json(options, began_with, &report, &shrunk)
    } else {
        in_words(options, began_with, &report, &shrunk)
    };
    print(&told).map_err(Error::Output)?;
    Ok(if report.failures.is_empty() { Outcome::Done } else { Outcome::Failed })
}

/// What is run, and the faults before any was left out.
fn config(options: &Options) -> Result<(Config, Faults), Error> {
    let mut faults = match options.faults.as_str() {
        "none" => Faults::none(),
        "default" => Faults::default(),
        file => lrp_file::read::<Faults>(Path::new(file))?,
    };
    faults
        .check()
        .map_err(|fault| Error::Usage(format!("--faults {}: {fault}", options.faults)))?;
    let began_with = faults;
    for kind in &options.without {
        if !faults.leave_out(kind) {
            let kinds = Faults::kinds().join(", ");
            return Err(Error::Usage(format!(
                "--without {kind}: there is no such kind; kinds are {kinds}"
            )));
        }
    }
    let manifest = options.manifest.as_deref().map(manifest).transpose()?;
    let wanted = manifest.as_ref().map_or(0, |manifest| manifest.count_cells());
    let config = Config {
        seed: options.from_seed,
        nodes: options.nodes,
        cells: if wanted > 0 { wanted } else { options.cells },
        steps: options.steps,
        left_out: options.left_out.clone(),
        lrps: options.lrps,
        tasks: options.tasks,
        faults,
        manifest,
        defect: None,
    };
    Ok((config, began_with))
}

fn manifest(file: &Path) -> Result<Arc<Manifest>, Error> {
    let spec: ManifestSpec = lrp_file::read(file)?;
    let manifest = spec.into_manifest();
    manifest
        .map(Arc::new)
        .map_err(|fault| Error::Usage(format!("--manifest {}: {fault}", file.display())))
}

fn keep(file: &Path, shrunk: &[Shrunk]) -> io::Result<()> {
    if shrunk.is_empty() {
        return Ok(());
    }
    let mut kept = OpenOptions::new().create(true).append(true).open(file)?;
    for Shrunk { config, .. } in shrunk {
        writeln!(kept, "{}", serde_json::to_string(config)?)?;
    }
    Ok(())
}

/// The arguments that run a run that was made small again.
fn again(options: &Options, began_with: Faults, config: &Config) -> String {
    let mut text = config.arguments(began_with);
    if options.faults != "default" {
        text.push_str(&format!(" --faults {}", options.faults));
    }
    if let Some(manifest) = &options.manifest {
        text.push_str(&format!(" --manifest {}", manifest.display()));
    }
    text
}

fn in_words(options: &Options, began_with: Faults, report: &Report, shrunk: &[Shrunk]) -> String {
    let mut lines = Vec::new();
    for Shrunk { config, failure, runs } in shrunk {
        lines.push(failure.to_string());
        lines.push(format!("  made small in {runs} runs; again:"));
        lines.push(format!("  diario simulate {}", again(options, began_with, config)));
    }
    for (why, count) in &report.waiting {
        lines.push(format!("{count} wait in the end: {why}"));
    }
    let failed = report.failures.len();
    lines.push(format!(
        "{} seeds, {failed} failed; {} instances run in the end, {} events; {:.1} s, {} seeds a minute",
        report.seeds,
        report.running,
        report.events,
        report.took.as_secs_f64(),
        report.seeds_per_minute,
    ));
    if failed > shrunk.len() {
        let seeds: Vec<String> = report.failures.iter().map(|it| it.seed.to_string()).collect();
        lines.push(format!("failed: {}", seeds.join(", ")));
    }
    lines.join("\n")
}

fn in_json(options: &Options, began_with: Faults, report: &Report, shrunk: &[Shrunk]) -> String {
    let failures = report.failures.iter().map(|failure| {
        let shrunk = shrunk.iter().find(|it| it.config.seed == failure.seed);
        json!({
            "seed": failure.seed,
            "step": failure.step,
            "invariant": failure.invariant,
            "detail": failure.detail,
            "again": shrunk.map(|it| again(options, began_with, &it.config)),
            "trace": shrunk.map(|it| &it.failure.trace),
        })
    });
    json!({
        "seeds": report.seeds,
        "failed": report.failures.len(),
        "events": report.events,
        "events_by_type": report.by_type,
        "running": report.running,
        "waiting": report.waiting,
        "seconds": report.took.as_secs_f64(),
        "seeds_per_minute": report.seeds_per_minute,
        "failures": failures.collect::<Vec<_>>(),
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parse(arguments: &str) -> Options {
        Line::parse_from(["simulate"].into_iter().chain(arguments.split(' '))).options
    }

    #[test]
    fn what_is_printed_of_a_run_that_was_made_small_runs_the_same_again() {
        let options = parse("--cells 7 --tasks 3");
        let (config, began_with) = config(&options).unwrap();
        let mut small = Config { seed: 12, nodes: 1, steps: 30, lrps: 1, ..config };
        small.left_out.0.extend([0, 1, 2, 9]);
        small.faults.leave_out("power_failed");
        small.faults.leave_out("append_unanswered");

        let again = parse(&again(&options, began_with, &small));

        assert_eq!(super::config(&again).unwrap(), (small, began_with));
        assert_eq!(again.seeds, 1);
    }
}
