-- Cancels a run at once: from now on its holder cannot write. The schema has the function.
-- $1 bigint: the run; $2 text: the reason, with the operator
SELECT pointsd.cancel_run($1, $2)
