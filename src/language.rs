//! The languages that pointsd writes for a business.

use serde::{Deserialize, Serialize};

/// A business's language.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Language {
    /// `en`
    #[default]
    #[serde(rename = "en")]
    English,
    /// `zh-CN`
    #[serde(rename = "zh-CN")]
    SimplifiedChinese,
}
