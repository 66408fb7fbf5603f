//! The choices of a business: its recharge sources, how long points live, and the language of descriptions.

use std::collections::BTreeSet;

use chrono::{DateTime, Days, TimeDelta, Utc};

use super::posting::{Kind, Posting};
use crate::language::Language;
use crate::time::{Zone, from_local};

/// Version of the rule by which a consume draws: soonest expiry first, then the older batch. Each entry keeps it, so
/// that a later rule does not change how an old history reads.
pub const DRAWING_RULE: i16 = 1;

/// The business's choices, handed to the state machine with every group.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The sources that a recharge may have.
    pub recharge_sources: BTreeSet<String>,
    /// How long a batch lives if the recharge does not say when it expires.
    pub life: Life,
    /// Language of the descriptions that the ledger writes itself.
    pub language: Language,
}

/// How long a batch lives from the effective time of its recharge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// So many times 24 hours.
    Days(u32),
    /// So many days on the calendar of a zone, to the same local time of day. Where a clock change leaves that time
    /// out, the first instant after the gap; where it comes twice, the earlier.
    CalendarDays(u32, Zone),
}

impl Life {
    /// The first instant at which points that came at `at` are gone; `None` beyond the calendar.
    pub fn expires_at(self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Life::Days(days) => at.checked_add_signed(TimeDelta::days(i64::from(days))),
            Life::CalendarDays(days, zone) => {
                let local = at.with_timezone(&zone).naive_local().checked_add_days(Days::new(u64::from(days)))?;
                from_local(local, zone)
            }
        }
    }
}

impl Rules {
    /// The description of an entry whose posting has none.
    pub(crate) fn describe(&self, posting: &Posting) -> String {
        match (&posting.kind, self.language) {
            (Kind::Recharge { source, order_id: Some(order), .. }, Language::English) => {
                format!("Recharge by {source}, order {order}")
            }
            (Kind::Recharge { source, order_id: None, .. }, Language::English) => format!("Recharge by {source}"),
            (Kind::Consume { source_type, source_id, .. }, Language::English) => {
                format!("Use of {source_type}, {source_id}")
            }
            (Kind::Recharge { source, order_id: Some(order), .. }, Language::SimplifiedChinese) => {
                format!("{source} 充值，订单 {order}")
            }
            (Kind::Recharge { source, order_id: None, .. }, Language::SimplifiedChinese) => format!("{source} 充值"),
            (Kind::Consume { source_type, source_id, .. }, Language::SimplifiedChinese) => {
                format!("使用 {source_type}，{source_id}")
            }
        }
    }

    /// The text before and after the source in the description of an expiry. In two pieces the sweep's statement can write
    /// it without knowing the language.
    pub(crate) fn expiry_sentence(&self) -> (&'static str, &'static str) {
        match self.language {
            Language::English => ("Expiry of ", " points"),
            Language::SimplifiedChinese => ("", " 积分到期"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_life_in_calendar_days_keeps_the_local_time() {
        let zone = |name: &str| name.parse().unwrap();
        let (paris, apia) = (zone("Europe/Paris"), zone("Pacific/Apia"));
        let cases = [
            // 02:30 in Paris the day before the clocks go forward: 02:30 does not come, 03:00 is the first after it.
            (paris, 1, "2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z"),
            // The day before they go back: 02:30 comes twice, the earlier one counts.
            (paris, 1, "2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z"),
            // Across a change the day has 23 or 25 hours, and local noon stays noon.
            (paris, 1, "2026-03-28T11:00:00Z", "2026-03-29T10:00:00Z"),
            (paris, 180, "2026-01-01T11:00:00Z", "2026-06-30T10:00:00Z"),
            // Samoa had no 30 December 2011: what would have ended at that noon ends when the 31st begins.
            (apia, 1, "2011-12-29T22:00:00Z", "2011-12-30T10:00:00Z"),
            (Zone::UTC, 180, "2026-01-01T00:00:00Z", "2026-06-30T00:00:00Z"),
        ];
        for (zone, days, from, to) in cases {
            let end = Life::CalendarDays(days, zone).expires_at(from.parse().unwrap());
            assert_eq!(end, Some(to.parse().unwrap()), "{days} days from {from} in {zone}");
        }
    }

    #[test]
    fn a_life_beyond_the_calendar_has_no_end() {
        for life in [Life::Days(u32::MAX), Life::CalendarDays(u32::MAX, Zone::UTC)] {
            assert_eq!(life.expires_at(DateTime::<Utc>::MAX_UTC), None, "{life:?}");
        }
    }

    #[test]
    fn descriptions_in_both_languages() {
        let at = "2026-01-01T00:00:00Z".parse().unwrap();
        let ordered = |order_id| Posting {
            kind: Kind::Recharge { source: "gift".into(), order_id, expires_at: None },
            ..Posting::recharge(Uuid::nil(), 1, "gift", at)
        };
        let cases = [
            (ordered(Some(7)), "Recharge by gift, order 7", "gift 充值，订单 7"),
            (ordered(None), "Recharge by gift", "gift 充值"),
            (Posting::consume(Uuid::nil(), 1, "tts", "t1", at), "Use of tts, t1", "使用 tts，t1"),
        ];
        for (posting, english, chinese) in cases {
            for (language, sentence) in [(Language::English, english), (Language::SimplifiedChinese, chinese)] {
                let rules = Rules { recharge_sources: BTreeSet::new(), life: Life::Days(1), language };
                assert_eq!(rules.describe(&posting), sentence);
            }
        }
    }
}
