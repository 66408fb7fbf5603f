//! A year of a made-up business that sells speech, video and scripts. Its customers join, buy, work, get presents, owe points
//! and leave. The random numbers start from a fixed seed, so only the dates differ between two demos.

use chrono::{DateTime, TimeDelta, Utc};
use fastrand::Rng;
use rust_decimal::Decimal;
use serde::Serialize;
use uuid::{Builder, Uuid};

use crate::config::BUILT_IN_PRICES;
use crate::prices::PriceList;

pub const CUSTOMERS: u64 = 10_000;
pub const SOURCES: [&str; 6] = ["wxpay", "alipay", "card", "gift", "invite", "compensation"];
/// How long points live, if the recharge does not say.
pub const LIFE_HOURS: u32 = 180 * 24;

const DAYS: i64 = 365;
const DAY: i64 = 86_400;
const SEED: u64 = 20_250_101;

/// How a kind of customer behaves.
struct Habit {
    /// Of 100 customers, this kind and the kinds before it.
    up_to: u32,
    /// Days with work, of 1,000 ordinary ones.
    active: u32,
    /// The most tasks on such a day.
    tasks: u32,
    /// Videos, of 100 tasks.
    videos: u32,
    /// Customers that leave for good, of 10,000 on each day.
    leave: u32,
    buys: Option<Package>,
}

/// Points for money: name, points, the days that they live, and the price in fen and in US cents. A package with a life of its own
/// renews a day before its end; one without is bought when points run out.
#[derive(Clone, Copy)]
struct Package(&'static str, i64, Option<i64>, Price);

/// Minor units of CNY, which WeChat Pay and Alipay take, and of USD, which cards pay.
#[derive(Clone, Copy)]
struct Price(i64, i64);

const TOP_UP: Package = Package("Top-up", 300, None, Price(2_900, 449));

const HABITS: [Habit; 5] = [
    Habit { up_to: 38, active: 90, tasks: 2, videos: 5, leave: 250, buys: None },
    Habit { up_to: 75, active: 60, tasks: 2, videos: 10, leave: 25, buys: Some(TOP_UP) },
    Habit {
        up_to: 91,
        active: 130,
        tasks: 2,
        videos: 10,
        leave: 25,
        buys: Some(Package("Monthly", 400, Some(31), Price(3_500, 549))),
    },
    Habit {
        up_to: 98,
        active: 170,
        tasks: 3,
        videos: 10,
        leave: 12,
        buys: Some(Package("Quarterly", 2_000, Some(92), Price(15_900, 2_499))),
    },
    Habit {
        up_to: 100,
        active: 450,
        tasks: 4,
        videos: 50,
        leave: 8,
        buys: Some(Package("Studio", 5_000, Some(31), Price(34_900, 5_499))),
    },
];

/// A line as `pointsd post` reads it.
#[derive(Clone, Serialize)]
pub struct Line {
    #[serde(flatten)]
    operation: Operation,
    pub user: Uuid,
    /// None for a refund or a void: all that is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    points: Option<i64>,
    at: DateTime<Utc>,
    /// When the ledger hears of it: mostly at once.
    #[serde(skip)]
    reported: DateTime<Utc>,
}

#[derive(Clone, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Operation {
    Recharge {
        source: &'static str,
        key: String,
        description: &'static str,
        expires_at: Option<DateTime<Utc>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        paid: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        currency: Option<&'static str>,
    },
    Consume {
        source_type: &'static str,
        source_id: String,
        duration: Option<Decimal>,
    },
    Refund {
        source_type: &'static str,
        source_id: String,
    },
    Void {
        of: String,
    },
}

/// Makes the year that ends just before `slot`, in the order in which it is reported.
///
/// # Errors
/// If the built-in price list lacks a service of this business.
pub fn make_year(slot: DateTime<Utc>) -> anyhow::Result<Vec<Line>> {
    let prices = PriceList::from_yaml("built-in prices", BUILT_IN_PRICES)?;
    let mut year = Vec::new();
    for number in 0..CUSTOMERS {
        year.extend(Customer::new(number, &prices, slot - TimeDelta::days(DAYS)).live()?);
    }
    let mut rng = Rng::with_seed(SEED);
    let faults: Vec<Line> = year.iter().filter_map(|line| fault(line, &mut rng)).collect();
    year.extend(faults);
    year.iter_mut().for_each(|line| delay(line, &mut rng));
    year.retain(|line| line.reported < slot);
    year.sort_by_key(|line| line.reported);
    Ok(year)
}

/// Usage that is reported late, now and then after the points that pay for it have expired.
fn delay(line: &mut Line, rng: &mut Rng) {
    if matches!(line.operation, Operation::Consume { .. }) && rng.u32(0..100) < 1 {
        line.reported = line.at + TimeDelta::hours(rng.i64(1..72));
    }
}

/// What goes wrong: a payment or a task that is reported twice, a payment with another amount, a failed task that costs
/// nothing, one whose points are given back, and a payment that the bank takes back.
fn fault(line: &Line, rng: &mut Rng) -> Option<Line> {
    let later = |seconds| line.at + TimeDelta::seconds(seconds);
    let mut again = Line { at: later(rng.i64(5..900)), ..line.clone() };
    match (&mut again.operation, rng.u32(0..20_000)) {
        (Operation::Consume { source_type, source_id, .. }, 5..25) => {
            // After the task itself was reported.
            (again.at, again.points) = (later(4 * DAY), None);
            again.operation = Operation::Refund { source_type, source_id: source_id.clone() };
        }
        (Operation::Recharge { source: "wxpay" | "alipay" | "card", key, .. }, 40..60) => {
            (again.at, again.points) = (later(rng.i64(10 * DAY..40 * DAY)), None);
            again.operation = Operation::Void { of: key.clone() };
        }
        (Operation::Recharge { .. }, 0..36) | (Operation::Consume { .. }, 0..4) => {}
        (Operation::Recharge { .. }, 36..40) => again.points = again.points.map(|points| points / 2),
        (Operation::Consume { source_id, .. }, 4) => {
            again.points = Some(0);
            source_id.push_str("-failed");
        }
        _ => return None,
    }
    again.reported = again.at;
    Some(again)
}

/// What the customer has, as far as the customer's decisions need it. The ledger computes the real balance.
#[derive(Default)]
struct Wallet {
    owes: i64,
    /// When each batch expires, and what remains of it.
    batches: Vec<(i64, i64)>,
}

impl Wallet {
    fn add(&mut self, points: i64, expires: i64) {
        let settled = points.min(self.owes);
        self.owes -= settled;
        self.batches.push((expires, points - settled));
        self.batches.sort_unstable();
    }

    fn available(&mut self, at: i64) -> i64 {
        self.batches.retain(|(expires, left)| *expires > at && *left > 0);
        self.batches.iter().map(|(_, left)| left).sum()
    }

    fn draw(&mut self, points: i64) {
        let mut wanted = points;
        for (_, left) in &mut self.batches {
            let drawn = wanted.min(*left);
            *left -= drawn;
            wanted -= drawn;
        }
        self.owes += wanted;
    }
}

struct Customer<'a> {
    rng: Rng,
    prices: &'a PriceList,
    user: Uuid,
    habit: &'static Habit,
    buys: Option<Package>,
    pays_by: &'static str,
    wallet: Wallet,
    /// When the year began.
    begin: DateTime<Utc>,
    /// Seconds from there to the customer's last action.
    clock: i64,
    lines: Vec<Line>,
}

impl<'a> Customer<'a> {
    fn new(number: u64, prices: &'a PriceList, begin: DateTime<Utc>) -> Customer<'a> {
        let mut rng = Rng::with_seed(SEED + number);
        let user = Builder::from_random_bytes(rng.u128(..).to_be_bytes()).into_uuid();
        let lot = rng.u32(0..100);
        let habit = HABITS.iter().find(|habit| lot < habit.up_to).unwrap_or(&HABITS[0]);
        let pays_by = rng.choice(["wxpay", "wxpay", "alipay", "card"]).unwrap_or("wxpay");
        let (buys, wallet) = (habit.buys, Wallet::default());
        Customer { rng, prices, user, habit, buys, pays_by, wallet, begin, clock: 0, lines: Vec::new() }
    }

    fn live(mut self) -> anyhow::Result<Vec<Line>> {
        // A quarter joined at the opening. Of the others, more join late than early.
        let joined = match self.lot(4) {
            0 => self.rng.i64(0..28),
            _ => self.rng.i64(0..DAYS).max(self.rng.i64(0..DAYS)),
        };
        self.recharge(joined, "Welcome", 100, "gift", Some(30), "welcome".to_owned());
        let mut renewal = joined + self.rng.i64(1..14);
        for day in joined + 1..DAYS {
            if self.lot(10_000) < self.habit.leave {
                break;
            }
            // An account in arrears may start no work. Some customers pay soon, some never.
            match self.lot(100) {
                _ if self.wallet.owes == 0 => {}
                0..40 => self.buy(day, TOP_UP),
                40..43 => break,
                _ => continue,
            }
            if let Some(package @ Package(_, _, Some(life), _)) = self.buys.filter(|_| day >= renewal) {
                self.buy(day, package);
                renewal = day + life - 1;
            }
            self.receive_presents(day);
            // Fewer people work at the weekend.
            let busy = if day % 7 < 5 { 116 } else { 70 };
            if self.lot(100_000) < self.habit.active * busy && !self.work(day)? {
                break;
            }
        }
        Ok(self.lines)
    }

    /// Does a day's tasks; false if the customer leaves for good.
    fn work(&mut self, day: i64) -> anyhow::Result<bool> {
        for _ in 0..self.rng.u32(1..=self.habit.tasks) {
            let (source_type, points, duration) = self.task()?;
            if self.wallet.available(self.clock) < points {
                match (self.buys, self.lot(1_000)) {
                    // The task took longer than estimated, so the account goes into arrears.
                    (Some(_), 0..18) | (None, 0..8) => {}
                    (None, 280..) => return Ok(false),
                    (buys, _) => {
                        self.buys = buys.or(Some(TOP_UP));
                        self.buy(day, TOP_UP);
                    }
                }
            }
            self.wait_until(day);
            self.wallet.available(self.clock);
            self.wallet.draw(points);
            let source_id = format!("{source_type}-{:012x}", self.rng.u64(0..1 << 48));
            self.write(points, Operation::Consume { source_type, source_id, duration });
            if self.wallet.owes > 0 {
                break;
            }
        }
        Ok(true)
    }

    /// A task: its service, its cost, and how many seconds it took.
    fn task(&mut self) -> anyhow::Result<(&'static str, i64, Option<Decimal>)> {
        let (service, tenths) = match self.lot(100) {
            lot if lot < self.habit.videos => ("video", Some(80..900)),
            88.. => ("script", None),
            lot if lot % 10 < 6 => ("tts", Some(80..2_000)),
            lot if lot % 10 < 9 => ("tts", Some(2_000..7_000)),
            _ => ("tts", Some(7_000..24_000)),
        };
        let seconds = tenths.map(|tenths| Decimal::new(self.rng.i64(tenths), 1).normalize());
        Ok((service, self.prices.cost(service, seconds)?, seconds))
    }

    fn receive_presents(&mut self, day: i64) {
        if self.lot(1_000) < 1 {
            self.recharge(day, "Brought a friend", 50, "invite", Some(90), format!("invite-{day}"));
        }
        // The campaign's vouchers expire on day 272. The ledger rejects those that are used too late.
        if (260..276).contains(&day) && self.lot(400) < 1 {
            self.recharge(day, "Voucher", 80, "gift", Some(272 - day), "voucher-autumn".to_owned());
        }
        // The service failed on these days.
        if [171, 290].contains(&day) && self.lot(10) < 3 {
            self.recharge(day, "Sorry for the outage", 30, "compensation", None, format!("outage-{day}"));
        }
    }

    fn buy(&mut self, day: i64, Package(name, points, life, Price(fen, cents)): Package) {
        let key = format!("payment-{:012x}", self.rng.u64(0..1 << 48));
        self.recharge(day, name, points, self.pays_by, life, key);
        let last = self.lines.last_mut().map(|line| &mut line.operation);
        if let Some(Operation::Recharge { paid, currency, .. }) = last {
            let price = if self.pays_by == "card" { (cents, "USD") } else { (fen, "CNY") };
            (*paid, *currency) = (Some(price.0), Some(price.1));
        }
    }

    fn recharge(
        &mut self,
        day: i64,
        description: &'static str,
        points: i64,
        source: &'static str,
        life: Option<i64>,
        key: String,
    ) {
        self.wait_until(day);
        self.wallet.add(points, self.clock + life.unwrap_or(i64::from(LIFE_HOURS / 24)) * DAY);
        let expires_at = life.map(|days| self.begin + TimeDelta::seconds(self.clock + days * DAY));
        self.write(points, Operation::Recharge { source, key, description, expires_at, paid: None, currency: None });
    }

    fn write(&mut self, points: i64, operation: Operation) {
        let (user, at) = (self.user, self.begin + TimeDelta::seconds(self.clock));
        self.lines.push(Line { operation, user, points: Some(points), at, reported: at });
    }

    /// Moves the clock to some time of the day, or on by some minutes if it is later already. The day begins at the time of
    /// the nightly slot, so most happens around its middle.
    fn wait_until(&mut self, day: i64) {
        let second = (self.rng.i64(0..DAY) + self.rng.i64(0..DAY)) / 2;
        self.clock = (day * DAY + second).max(self.clock + self.rng.i64(40..1_500));
    }

    /// Draws a number below `of`.
    fn lot(&mut self, of: u32) -> u32 {
        self.rng.u32(0..of)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_year_is_the_same_each_time_and_ends_before_its_slot() {
        let slot = DateTime::<Utc>::UNIX_EPOCH + TimeDelta::days(20_000);
        let year = make_year(slot).unwrap();
        let text = serde_json::to_string(&year).unwrap();
        assert!(text == serde_json::to_string(&make_year(slot).unwrap()).unwrap());
        assert!((190_000..215_000).contains(&year.len()), "{} postings", year.len());
        assert_eq!(year.iter().map(|line| line.user).collect::<BTreeSet<_>>().len() as u64, CUSTOMERS);
        assert!(SOURCES.iter().all(|source| text.contains(&format!("\"source\":\"{source}\""))));
        for fault in ["refund", "void"] {
            assert!(text.matches(&format!("\"op\":\"{fault}\"")).count() >= 10, "{fault}");
        }
        assert!(year.iter().all(|line| line.at <= line.reported && line.reported < slot));
        assert!(year.iter().any(|line| line.at < line.reported));
    }
}
