//! Proves the ledger: every invariant, over every account or over the accounts that changed since the last proof.
//!
//! - A **screen** is one statement over a group of accounts: it reads their entries and batches once and returns the
//!   suspects, the accounts that may not be sound.
//! - A **check** is an invariant as a query, `sql/checks/RULE.sql`: it returns the places where the suspects break
//!   the invariant. No row means that they are sound.
//! - A **finding** is such a place. It stands until a proof no longer finds it.
//! - A **checkpoint** records how far an account is proved; the next proof goes on from there.

mod checks;
mod findings;
mod prove;
mod repair;
mod screen;
mod session;
mod state;

pub use checks::{Finding, RULES, Rule, examine, examine_bucket};
pub use findings::{
    FindingCounts, RecordedFinding, count_findings, count_whole_ledger_findings, load_open_findings,
    load_resolved_findings, load_users_with_findings, prune_findings, record_findings, record_findings_of_bucket,
    record_whole_ledger_findings, resolve_findings,
};
pub use prove::{Asked, Error, Lane, Place, Proof, prove};
pub use repair::{
    AccountRow, AdjustAllocation, AdjustEntry, Approval, Basis, BatchChange, BatchRow, BeforeAfter, Change, Plan,
    RepairError, RepairOutcome, Unrepairable, apply, plan,
};
pub use session::prepare_session;
pub use state::{ProofState, load_state};
