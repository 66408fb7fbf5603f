//! pointsd
