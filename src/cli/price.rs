//! `price`: the price list, the cost of work done, an estimate of work to do.

use rust_decimal::Decimal;

use super::output::{counted, json, say, table};
use super::posting::seconds;
use super::{Outcome, Program};

/// Asks the price list.
#[derive(clap::Subcommand)]
pub enum Price {
    /// Shows every service and its rule
    List,
    /// What a piece of work cost
    Cost {
        /// The kind of service
        #[arg(value_name = "TYPE")]
        service: String,
        /// How long it took, for a service charged by time
        #[arg(long, value_name = "X", value_parser = seconds)]
        seconds: Option<Decimal>,
    },
    /// What a piece of work will cost, asked before it is done
    Estimate {
        /// The kind of service
        #[arg(value_name = "TYPE")]
        service: String,
        /// Characters of the input, for a service that is estimated by them
        #[arg(long, value_name = "N")]
        chars: Option<u64>,
        /// Seconds of the input, for a service that is estimated by them
        #[arg(long, value_name = "X", value_parser = seconds)]
        input_seconds: Option<Decimal>,
    },
}

impl Price {
    /// Asks and shows.
    pub fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let prices = &program.config.prices;
        match self {
            Price::List if program.json => {
                for service in prices.services() {
                    json(&serde_json::json!({
                        "service": service.name, "kind": service.kind.to_string(),
                        "rule": service.rule, "estimation": service.estimation,
                    }))?;
                }
            }
            Price::List => {
                let rows = prices.services().map(|service| {
                    let estimation = service.estimation.unwrap_or_else(|| "–".to_owned());
                    vec![service.name.to_owned(), service.rule, estimation]
                });
                say(table(&["service", "points", "estimated by"], &rows.collect::<Vec<_>>()))?;
            }
            Price::Cost { service, seconds } => points(prices.cost(&service, seconds)?, program)?,
            Price::Estimate { service, chars, input_seconds } => {
                points(prices.estimate(&service, chars, input_seconds)?, program)?;
            }
        }
        Ok(Outcome::Done)
    }
}

fn points(points: i64, program: &Program) -> anyhow::Result<()> {
    if program.json { json(&serde_json::json!({ "points": points })) } else { say(counted(points, "point", "points")) }
}
