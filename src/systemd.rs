//! (stub)
use std::time::Duration;
/// stub
#[derive(Clone, Default)]
pub struct Notifier;
#[allow(missing_docs, clippy::unused_self)]
impl Notifier {
    pub fn from_environment() -> Notifier {
        Notifier
    }
    pub fn ready(&self, _: &str) {}
    pub fn status(&self, _: &str) {}
    pub fn reloading(&self) {}
    pub fn stopping(&self, _: &str) {}
    pub fn extend(&self, _: Duration) {}
}
/// stub
pub struct Health;
#[allow(missing_docs, clippy::unused_self)]
impl Health {
    pub fn start() -> Health {
        Health
    }
    pub fn beat(&self) {}
}
