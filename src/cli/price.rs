//! `price`: the price list, the cost of a task, and an estimate before it begins.

use rust_decimal::Decimal;

use super::output::{counted, table};
use super::posting::seconds;
use super::{Outcome, Program};

/// Shows prices, and computes what a task costs
#[derive(clap::Subcommand)]
pub enum Price {
    /// Lists the services and their prices
    List,
    /// Computes what a finished task costs
    Cost {
        /// The service, such as tts
        #[arg(value_name = "TYPE")]
        service: String,
        /// Seconds that the task took, for a service charged by time
        #[arg(long, value_name = "X", value_parser = seconds)]
        seconds: Option<Decimal>,
    },
    /// Estimates what a task will cost, before it begins
    Estimate {
        /// The service, such as tts
        #[arg(value_name = "TYPE")]
        service: String,
        /// Characters of the input, for a service estimated by characters
        #[arg(long, value_name = "N")]
        chars: Option<u64>,
        /// Seconds of the input, for a service estimated by time
        #[arg(long, value_name = "X", value_parser = seconds)]
        input_seconds: Option<Decimal>,
    },
}

impl Price {
    /// Prints the answer.
    pub fn run(self, program: &Program) -> anyhow::Result<Outcome> {
        let prices = &program.config.prices;
        match self {
            Price::List => {
                let services: Vec<_> = prices.services().collect();
                program.list(&services, || {
                    let rows = services.iter().map(|service| {
                        let estimation = service.estimation.clone().unwrap_or_else(|| "–".to_owned());
                        vec![service.name.to_owned(), service.rule.clone(), estimation]
                    });
                    table(&["service", "points", "estimated by"], &rows.collect::<Vec<_>>())
                })?;
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
    program.answer(serde_json::json!({ "points": points }), || counted(points, "point", "points"))
}
