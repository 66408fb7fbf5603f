//! Statements that are sent together, without waiting for an answer in between.

use std::task::Poll;

use futures_util::future::{maybe_done, poll_fn};

/// Sends statements together and waits for all their answers: `pipelined!(first, second, …)` gives their values or an error.
///
/// The error is that of the first statement that failed. After it the server refuses the others, because the transaction is
/// aborted. With `try_join!`, one of those refusals may arrive first and hide the cause.
macro_rules! pipelined {
    ($($statement:expr),+ $(,)?) => {
        $crate::database::FirstError::values(futures_util::join!($($statement),+))
    };
}
pub(crate) use pipelined;

/// As [`pipelined!`], for statements of one kind: sends them in their order, and returns their values in this order.
pub(crate) async fn pipelined_all<T, E>(
    statements: impl IntoIterator<Item = impl Future<Output = Result<T, E>>>,
) -> Result<Vec<T>, E> {
    let mut statements: Vec<_> = statements.into_iter().map(|statement| Box::pin(maybe_done(statement))).collect();
    poll_fn(|context| {
        let mut all_done = true;
        for statement in &mut statements {
            all_done &= statement.as_mut().poll(context).is_ready();
        }
        if all_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    statements.iter_mut().filter_map(|statement| statement.as_mut().take_output()).collect()
}

/// The results of several statements, in the order of sending.
pub(crate) trait FirstError<E> {
    /// What they return.
    type Values;

    /// Their values, or the first error.
    fn values(self) -> Result<Self::Values, E>;
}

macro_rules! first_error {
    ($($value:ident),+) => {
        impl<E, $($value),+> FirstError<E> for ($(Result<$value, E>,)+) {
            type Values = ($($value,)+);

            #[allow(non_snake_case)]
            fn values(self) -> Result<Self::Values, E> {
                let ($($value,)+) = self;
                Ok(($($value?,)+))
            }
        }
    };
}

first_error!(A, B);
first_error!(A, B, C);
first_error!(A, B, C, D);
first_error!(A, B, C, D, F);
first_error!(A, B, C, D, F, G, H, I, J, K, L);

#[cfg(test)]
mod tests {
    use std::future::ready;

    use futures_util::future::poll_fn;

    /// The first failure in the order of sending, also where a later one is known sooner.
    #[tokio::test]
    async fn of_several_statements_the_first_one_that_failed_is_told() {
        let statement = async |pauses: usize, result: Result<usize, &'static str>| {
            for _ in 0..pauses {
                tokio::task::yield_now().await;
            }
            result
        };
        let failing = [statement(2, Ok(1)), statement(3, Err("the cause")), statement(0, Err("aborted"))];
        assert_eq!(super::pipelined_all(failing).await, Err("the cause"));
        let sound = [statement(1, Ok(1)), statement(0, Ok(2))];
        assert_eq!(super::pipelined_all(sound).await, Ok(vec![1, 2]));
    }

    /// The answer of the first statement becomes known after that of the second one was asked for.
    #[tokio::test]
    async fn the_first_statement_that_failed_is_told() {
        let mut asked = false;
        let late = poll_fn(move |context| {
            if std::mem::replace(&mut asked, true) {
                return std::task::Poll::Ready(Err::<(), _>("the cause"));
            }
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        });
        let aborted = ready(Err::<(), _>("the transaction is aborted"));
        assert_eq!(pipelined!(late, aborted), Err("the cause"));
        assert_eq!(pipelined!(ready(Ok::<_, ()>(1)), ready(Ok("two"))), Ok((1, "two")));
    }
}
