//! The record of orders: each call that operates is written down with the name of its token, also one that is refused.

use super::super::{Problem, Server};
use crate::access::{self, Holder};

/// Carries an order out. It is written down before, so that none is carried out unrecorded; `act` returns what became of it in a
/// few words.
pub(in crate::http) async fn carry_out<T>(
    server: &Server,
    holder: &Holder,
    (action, subject): (&str, &str),
    act: impl Future<Output = Result<(T, String), Problem>>,
) -> Result<T, Problem> {
    let order = access::record(&*server.reading().await?, holder, action, subject).await?;
    let done = act.await;
    let outcome = match &done {
        Ok((_, outcome)) => outcome.clone(),
        Err(problem) if problem.status().is_client_error() => format!("refused: {}", problem.detail()),
        Err(problem) => format!("failed: {}", problem.detail()),
    };
    let written = async {
        let client = server.reading().await?;
        Ok::<_, Problem>(access::record_outcome(&client, order, &outcome).await?)
    };
    if let Err(problem) = written.await {
        // The order itself is written down, and its caller is told what became of it.
        tracing::warn!(order, outcome, "the outcome of an order is not written down: {}", problem.detail());
    }
    done.map(|(answer, _)| answer)
}
