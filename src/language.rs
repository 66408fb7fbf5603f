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

impl Language {
    /// As the configuration and HTML call it.
    pub fn tag(self) -> &'static str {
        match self {
            Language::English => "en",
            Language::SimplifiedChinese => "zh-CN",
        }
    }

    /// The language of this tag.
    pub fn named(tag: &str) -> Option<Language> {
        [Language::English, Language::SimplifiedChinese].into_iter().find(|language| language.tag() == tag)
    }
}
