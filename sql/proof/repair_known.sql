-- Finds the entry by which a plan was applied to an account; null if it was not.
-- $1 uuid: the user; $2 text: the plan
SELECT max(seq) FROM pointsd.entries WHERE bucket = pointsd.bucket_of($1) AND user_id = $1 AND type = 'adjust' AND correction ->> 'plan' = $2
