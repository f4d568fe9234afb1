//! How cells are weighed, as options of a command: Diego's three settings of its auctioneer, under
//! its names and with its defaults. Nodes on one database should all be given the same.

use clap::Args;
use domain::auction::Settings;

/// The largest weight that is taken: near it, what is weighed outdoes all else.
const WEIGHT_MAX: f64 = 1_000.0;

/// How cells are weighed.
#[derive(Debug, Clone, Copy, Args)]
#[group(skip)]
#[command(next_help_heading = "Placement")]
pub struct Options {
    /// What each container that is starting on a cell adds to the cell's score: the cell with the
    /// lowest score is chosen. From 0 to 1000.
    #[arg(long, value_name = "WEIGHT", value_parser = weight,
        default_value_t = Settings::default().starting_container_weight)]
    starting_container_weight: f64,
    /// The most containers that may be starting on all cells together; 0 is without limit.
    #[arg(long, value_name = "COUNT",
        default_value_t = Settings::default().starting_container_count_maximum)]
    starting_container_count_maximum: u32,
    /// What a cell's place in its zone adds to its score: 0 spreads over the cells, more fills
    /// them one after another. From 0 to 1000.
    #[arg(long, value_name = "WEIGHT", value_parser = weight,
        default_value_t = Settings::default().bin_pack_first_fit_weight)]
    bin_pack_first_fit_weight: f64,
}

impl Options {
    /// As the auction takes them.
    #[must_use]
    pub fn settings(self) -> Settings {
        Settings {
            starting_container_weight: self.starting_container_weight,
            starting_container_count_maximum: self.starting_container_count_maximum,
            bin_pack_first_fit_weight: self.bin_pack_first_fit_weight,
        }
    }
}

fn weight(text: &str) -> Result<f64, String> {
    let asked: Option<f64> = text.parse().ok();
    let within = |asked: &f64| (0.0..=WEIGHT_MAX).contains(asked);
    asked.filter(within).ok_or_else(|| "must be a number from 0 to 1000".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Command {
        #[command(flatten)]
        placement: Options,
    }

    fn settings(arguments: &[&str]) -> Result<Settings, String> {
        let arguments = ["serve"].iter().chain(arguments);
        let parsed = Command::try_parse_from(arguments).map_err(|error| error.to_string());
        parsed.map(|command| command.placement.settings())
    }

    #[test]
    fn without_a_word_cells_are_weighed_as_diego_does() {
        assert_eq!(settings(&[]), Ok(Settings::default()));
    }

    #[test]
    fn each_option_is_taken() {
        let given = settings(&[
            "--starting-container-weight=0.5",
            "--starting-container-count-maximum=40",
            "--bin-pack-first-fit-weight=0.75",
        ]);

        let taken = Settings {
            starting_container_weight: 0.5,
            starting_container_count_maximum: 40,
            bin_pack_first_fit_weight: 0.75,
        };
        assert_eq!(given, Ok(taken));
    }

    #[test]
    fn a_weight_that_is_none_is_refused_with_its_bounds() {
        for option in ["--starting-container-weight", "--bin-pack-first-fit-weight"] {
            for weight in ["-1", "NaN", "inf", "1000.5", "much", ""] {
                let refusal = settings(&[&format!("{option}={weight}")]).unwrap_err();
                assert!(refusal.contains(option), "{refusal}");
                assert!(refusal.contains("must be a number from 0 to 1000"), "{refusal}");
            }
        }
        assert!(settings(&["--starting-container-count-maximum=-1"]).is_err());
    }
}
