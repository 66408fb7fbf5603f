//! A year of a made-up business that sells speech, video and scripts: who comes, buys, uses, is given points, owes and
//! stays away. It is the same year every time, told in seconds from its beginning; only the slot at its end moves.

use std::io::Write as _;

use chrono::{DateTime, TimeDelta, Utc};
use fastrand::Rng;
use rust_decimal::Decimal;
use serde::Serialize;
use uuid::{Builder, Uuid};

use crate::config::BUILT_IN_PRICES;
use crate::ledger::Life;
use crate::prices::PriceList;
use crate::time::time_text;

/// Customers of the business.
pub const ACCOUNTS: u64 = 10_000;
/// Where its points come from.
pub const SOURCES: [&str; 6] = ["wxpay", "alipay", "card", "gift", "invite", "compensation"];
/// How long points live where the recharge does not say.
pub const LIFE: Life = Life::Days(LIFE_DAYS as u32);

const LIFE_DAYS: i64 = 180;
const DAYS: i64 = 365;
const DAY: i64 = 86_400;
const SEED: u64 = 20_250_101;

const WELCOME: i64 = 100;
const WELCOME_DAYS: i64 = 30;
/// The service was down on these days; who was there got something for it.
const OUTAGES: [i64; 2] = [171, 290];
/// A campaign's vouchers end after these days; a few customers open theirs too late.
const VOUCHERS: std::ops::Range<i64> = 260..272;
const VOUCHERS_OPENED: std::ops::Range<i64> = 260..276;

/// How busy each day of a week is, an ordinary one being 10.
const WEEK: [u32; 7] = [10, 11, 11, 11, 10, 7, 6];
/// How busy each four weeks of the year are, ordinary ones being 10.
const SEASON: [u32; 14] = [9, 7, 10, 10, 11, 11, 10, 9, 8, 10, 11, 12, 13, 13];
/// How busy each hour of a day is. The day begins at the slot's time of day, in the night.
const HOURS: [i64; 24] = [1, 1, 1, 1, 2, 4, 7, 10, 11, 10, 8, 8, 10, 11, 11, 10, 9, 9, 10, 11, 9, 6, 4, 2];

/// What a kind of customer does.
struct Habit {
    /// Of 100 customers.
    share: u32,
    /// Days with work, of 1,000 ordinary ones.
    active: u32,
    /// The most pieces of work on such a day.
    jobs: u32,
    /// How many of 100 pieces of work are videos.
    videos: u32,
    /// Those who stay away for good, of 10,000 on each day.
    leave: u32,
    buys: Option<Package>,
}

/// Points for money.
#[derive(Clone, Copy)]
struct Package {
    name: &'static str,
    points: i64,
    life_days: Option<i64>,
    /// Bought again after so many days; else when the points are used up.
    every_days: Option<i64>,
}

const TOP_UP: Package = Package { name: "Top-up", points: 300, life_days: None, every_days: None };
const MONTHLY: Package = Package { name: "Monthly package", points: 400, life_days: Some(31), every_days: Some(30) };
const QUARTERLY: Package =
    Package { name: "Quarterly package", points: 2_000, life_days: Some(92), every_days: Some(91) };
const STUDIO: Package = Package { name: "Studio package", points: 5_000, life_days: Some(62), every_days: Some(30) };

const HABITS: [Habit; 5] = [
    // Has a look, and stays or not.
    Habit { share: 38, active: 90, jobs: 2, videos: 5, leave: 250, buys: None },
    // Comes now and then.
    Habit { share: 37, active: 60, jobs: 2, videos: 10, leave: 25, buys: Some(TOP_UP) },
    // Works with it.
    Habit { share: 16, active: 130, jobs: 2, videos: 10, leave: 25, buys: Some(MONTHLY) },
    Habit { share: 7, active: 170, jobs: 3, videos: 10, leave: 12, buys: Some(QUARTERLY) },
    // Lives on it.
    Habit { share: 2, active: 450, jobs: 4, videos: 50, leave: 8, buys: Some(STUDIO) },
];

/// Everything that happened, in order of time.
#[derive(Debug, PartialEq)]
pub struct Year {
    events: Vec<Event>,
}

#[derive(Clone, Debug, PartialEq)]
struct Event {
    /// Seconds since the year began.
    at: i64,
    user: Uuid,
    what: What,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    Bought { package: &'static str, points: i64, source: &'static str, expires: Option<i64>, order: i64 },
    Given { why: &'static str, points: i64, source: &'static str, expires: Option<i64>, key: String },
    Used { service: &'static str, points: i64, tenths: Option<i64>, task: u64 },
}

/// A line as `pointsd post` reads it.
#[derive(Serialize)]
struct Line<'a> {
    op: &'a str,
    user: Uuid,
    points: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    at: String,
}

impl Year {
    /// Makes it up.
    ///
    /// # Errors
    /// Never, unless the built-in price list loses a service.
    pub fn make_up() -> anyhow::Result<Year> {
        let prices = PriceList::from_yaml("built-in prices", BUILT_IN_PRICES)?;
        let mut events = Vec::new();
        for number in 0..ACCOUNTS {
            Customer::new(number, &prices, &mut events).live()?;
        }
        events.sort_by_key(|event| event.at);
        number_in_order(&mut events);
        events.extend(mishaps(&events));
        events.retain(|event| event.at < DAYS * DAY);
        events.sort_by_key(|event| event.at);
        Ok(Year { events })
    }

    /// How many postings it has, with those that are refused or come twice.
    pub fn postings(&self) -> u64 {
        self.events.len() as u64
    }

    /// The lines for `pointsd post`, of the year that ends just before `slot`.
    ///
    /// # Errors
    /// Never, while memory can be written to.
    pub fn to_ndjson(&self, slot: DateTime<Utc>) -> anyhow::Result<Vec<u8>> {
        let time = |seconds: i64| time_text(slot + TimeDelta::seconds(seconds - DAYS * DAY));
        let mut text = Vec::with_capacity(self.events.len() * 220);
        for event in &self.events {
            let mut line = Line {
                op: "recharge",
                user: event.user,
                points: 0,
                source: None,
                order_id: None,
                source_type: None,
                source_id: None,
                duration: None,
                key: None,
                expires_at: None,
                description: None,
                at: time(event.at),
            };
            match event.what {
                What::Bought { package, points, source, expires, order } => {
                    (line.points, line.source, line.order_id) = (points, Some(source), Some(order));
                    (line.expires_at, line.description) = (expires.map(time), Some(package));
                }
                What::Given { why, points, source, expires, ref key } => {
                    (line.points, line.source, line.key) = (points, Some(source), Some(key.as_str()));
                    (line.expires_at, line.description) = (expires.map(time), Some(why));
                }
                What::Used { service, points, tenths, task } => {
                    (line.op, line.points, line.source_type) = ("consume", points, Some(service));
                    line.source_id = Some(format!("{service}-{task}"));
                    line.duration = tenths.map(|tenths| seconds_of(tenths).to_string());
                }
            }
            serde_json::to_writer(&mut text, &line)?;
            text.write_all(b"\n")?;
        }
        Ok(text)
    }
}

fn seconds_of(tenths: i64) -> Decimal {
    Decimal::new(tenths, 1).normalize()
}

/// Orders and tasks get their numbers across all customers, as one system counts them.
fn number_in_order(events: &mut [Event]) {
    let mut rng = Rng::with_seed(SEED);
    let (mut orders, mut tasks) = (70_310_000, 480_000);
    for event in events {
        match &mut event.what {
            What::Bought { order, .. } => {
                orders += rng.i64(1..=3);
                *order = orders;
            }
            What::Used { task, .. } => {
                tasks += rng.u64(1..=2);
                *task = tasks;
            }
            What::Given { .. } => {}
        }
    }
}

/// What goes wrong between systems: notices of payment that come twice, a few of them with another amount, workers
/// that report a task again, and tasks that failed and cost nothing.
fn mishaps(events: &[Event]) -> Vec<Event> {
    let mut rng = Rng::with_seed(SEED);
    let mut mishaps = Vec::new();
    for event in events {
        let lot = rng.u32(0..20_000);
        let mut again = Event { at: event.at + rng.i64(5..900), ..event.clone() };
        match &mut again.what {
            What::Bought { .. } if lot < 36 => {}
            What::Bought { points, .. } if lot < 40 => *points /= 2,
            What::Used { .. } if lot < 4 => {}
            What::Used { points, tenths, task, .. } if lot == 4 => {
                (*points, *tenths) = (0, tenths.map(|_| 0));
                *task += 1_000_000;
            }
            _ => continue,
        }
        mishaps.push(again);
    }
    mishaps
}

/// What a customer has, as far as the customer goes by it. The books are the ledger's.
#[derive(Default)]
struct Wallet {
    owes: i64,
    /// When each runs out, and what is left of it.
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
    events: &'a mut Vec<Event>,
    user: Uuid,
    habit: &'static Habit,
    buys: Option<Package>,
    pays_by: &'static str,
    wallet: Wallet,
    /// When the customer did something last.
    clock: i64,
}

impl<'a> Customer<'a> {
    fn new(number: u64, prices: &'a PriceList, events: &'a mut Vec<Event>) -> Customer<'a> {
        let mut rng = Rng::with_seed(SEED + number);
        let user = Builder::from_random_bytes(rng.u128(..).to_be_bytes()).into_uuid();
        let mut lot = rng.u32(0..100);
        let [first, others @ ..] = &HABITS;
        let mut habit = first;
        for other in others {
            if lot < habit.share {
                break;
            }
            lot -= habit.share;
            habit = other;
        }
        let pays_by = match rng.u32(0..100) {
            0..55 => "wxpay",
            55..88 => "alipay",
            _ => "card",
        };
        Customer { rng, prices, events, user, habit, buys: habit.buys, pays_by, wallet: Wallet::default(), clock: 0 }
    }

    fn live(mut self) -> anyhow::Result<()> {
        // A quarter came with the opening; of the others more come later than sooner.
        let joined = match self.rng.u32(0..4) {
            0 => self.rng.i64(0..28),
            1 => self.rng.i64(0..DAYS),
            _ => self.rng.i64(0..DAYS).max(self.rng.i64(0..DAYS)),
        };
        self.wait(joined);
        self.given("Welcome", WELCOME, "gift", Some(self.clock + WELCOME_DAYS * DAY), "welcome".to_owned());
        let mut renewal = joined + self.rng.i64(1..14);
        for day in joined + 1..DAYS {
            if self.lot(10_000) < self.habit.leave {
                return Ok(());
            }
            if self.wallet.owes > 0 {
                // No work before the debt is paid. Some pay soon, some never.
                match self.lot(100) {
                    0..40 => self.buy(day, TOP_UP),
                    40..43 => return Ok(()),
                    _ => continue,
                }
            }
            if let Some(package @ Package { every_days: Some(every), .. }) = self.buys
                && day >= renewal
            {
                self.buy(day, package);
                renewal = day + every;
            }
            self.presents(day);
            if self.lot(100_000) < self.habit.active * busy(day) && !self.work(day)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A day's work; false if the customer stays away from now on.
    fn work(&mut self, day: i64) -> anyhow::Result<bool> {
        for _ in 0..self.rng.u32(1..=self.habit.jobs) {
            let (service, points, tenths) = self.job()?;
            if self.wallet.available(self.clock) < points {
                match (self.buys, self.lot(1_000)) {
                    // The work took longer than it was thought to, and is paid for afterwards.
                    (Some(_), 0..18) | (None, 0..8) => {}
                    (Some(package), _) => self.buy(day, if package.every_days.is_some() { TOP_UP } else { package }),
                    (None, 8..280) => {
                        self.buys = Some(TOP_UP);
                        self.buy(day, TOP_UP);
                    }
                    (None, _) => return Ok(false),
                }
            }
            self.wait(day);
            self.wallet.available(self.clock);
            self.wallet.draw(points);
            self.tell(What::Used { service, points, tenths, task: 0 });
            if self.wallet.owes > 0 {
                break;
            }
        }
        Ok(true)
    }

    /// A piece of work: the service, what it costs, and how many tenths of a second it took.
    fn job(&mut self) -> anyhow::Result<(&'static str, i64, Option<i64>)> {
        let lot = self.lot(100);
        if lot < self.habit.videos {
            self.timed("video", 80..900)
        } else if lot >= 88 {
            Ok(("script", self.prices.cost("script", None)?, None))
        } else {
            // Sentences, articles, chapters.
            let tenths = match self.lot(10) {
                0..6 => 80..2_000,
                6..9 => 2_000..7_000,
                _ => 7_000..24_000,
            };
            self.timed("tts", tenths)
        }
    }

    fn timed(
        &mut self,
        service: &'static str,
        tenths: std::ops::Range<i64>,
    ) -> anyhow::Result<(&'static str, i64, Option<i64>)> {
        let tenths = self.rng.i64(tenths);
        Ok((service, self.prices.cost(service, Some(seconds_of(tenths)))?, Some(tenths)))
    }

    /// What the business gives away.
    fn presents(&mut self, day: i64) {
        if self.lot(1_000) < 1 {
            self.wait(day);
            let guest = self.rng.u32(10_000..100_000);
            self.given("Brought a friend", 50, "invite", Some(self.clock + 90 * DAY), format!("invite-{guest}"));
        }
        if VOUCHERS_OPENED.contains(&day) && self.lot(400) < 1 {
            self.wait(day);
            self.given("Voucher", 80, "gift", Some(VOUCHERS.end * DAY), "voucher-autumn".to_owned());
        }
        if OUTAGES.contains(&day) && self.lot(10) < 3 {
            self.wait(day);
            self.given("Sorry for the outage", 30, "compensation", None, format!("outage-{day}"));
        }
    }

    fn buy(&mut self, day: i64, package: Package) {
        self.wait(day);
        let expires = package.life_days.map(|days| self.clock + days * DAY);
        self.wallet.add(package.points, expires.unwrap_or(self.clock + LIFE_DAYS * DAY));
        let (source, points) = (self.pays_by, package.points);
        self.tell(What::Bought { package: package.name, points, source, expires, order: 0 });
    }

    fn given(&mut self, why: &'static str, points: i64, source: &'static str, expires: Option<i64>, key: String) {
        self.wallet.add(points, expires.unwrap_or(self.clock + LIFE_DAYS * DAY));
        self.tell(What::Given { why, points, source, expires, key });
    }

    fn tell(&mut self, what: What) {
        self.events.push(Event { at: self.clock, user: self.user, what });
    }

    /// Lets time pass to some hour of the day, or for some minutes where it is later already.
    fn wait(&mut self, day: i64) {
        let mut lot = self.rng.i64(0..HOURS.iter().sum());
        let mut hour = 0;
        for weight in HOURS {
            if lot < weight {
                break;
            }
            lot -= weight;
            hour += 1;
        }
        let then = day * DAY + hour * 3_600 + self.rng.i64(0..3_600);
        self.clock = then.max(self.clock + self.rng.i64(40..1_500));
    }

    fn lot(&mut self, of: u32) -> u32 {
        self.rng.u32(0..of)
    }
}

/// How busy a day is, an ordinary one being 100.
fn busy(day: i64) -> u32 {
    let weight = |weights: &[u32], place: i64| {
        let place = usize::try_from(place).unwrap_or_default();
        weights.get(place % weights.len()).copied().unwrap_or_default()
    };
    weight(&WEEK, day) * weight(&SEASON, day / 28)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_year_is_the_same_every_time_and_believable() {
        let year = Year::make_up().unwrap();
        assert_eq!(year, Year::make_up().unwrap());
        assert!(year.events.is_sorted_by_key(|event| event.at));
        assert!(year.events.iter().all(|event| (0..DAYS * DAY).contains(&event.at)));
        assert!((190_000..215_000).contains(&year.postings()), "{} postings", year.postings());

        let mut balances: BTreeMap<Uuid, Wallet> = BTreeMap::new();
        let mut sources = std::collections::BTreeSet::new();
        for event in &year.events {
            let wallet = balances.entry(event.user).or_default();
            match &event.what {
                What::Bought { points, expires, source, .. } | What::Given { points, expires, source, .. } => {
                    sources.insert(*source);
                    wallet.add(*points, expires.unwrap_or(event.at + LIFE_DAYS * DAY));
                }
                What::Used { points, .. } => {
                    wallet.available(event.at);
                    wallet.draw(*points);
                }
            }
        }
        assert_eq!(balances.len() as u64, ACCOUNTS);
        assert_eq!(sources.len(), SOURCES.len());
        // Replays are counted twice here, so this is about right only.
        let owing = balances.values().filter(|wallet| wallet.owes > 0).count();
        assert!((100..220).contains(&owing), "{owing} in arrears");
    }

    #[test]
    fn every_line_can_be_read_and_ends_before_the_slot() {
        let slot: DateTime<Utc> = "2026-03-01T02:00:00Z".parse().unwrap();
        let year = Year::make_up().unwrap();
        let text = String::from_utf8(year.to_ndjson(slot).unwrap()).unwrap();
        assert_eq!(text.lines().count() as u64, year.postings());
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        let at: DateTime<Utc> = last.get("at").unwrap().as_str().unwrap().parse().unwrap();
        assert!(at < slot && slot - at < TimeDelta::hours(1), "{at}");
    }
}
