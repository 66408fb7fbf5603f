-- The entry by which a plan was applied to an account.
-- $1 uuid: the user; $2 text: the plan
SELECT max(seq) FROM pointsd.entries WHERE bucket = 0 AND user_id = $1 AND type = 'adjust' AND correction ->> 'plan' = $2
