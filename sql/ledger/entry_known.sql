-- Which of a group's keys are taken, and by which entries. A key's sixteen bytes have the user in them.
-- A key that is not there must cost one probe, whatever the statistics say. The limits keep each lateral query behind its key: a plan
-- made for a few entries would else read all of a bucket for each key, or search them one by one.
-- $1 uuid[]: the keys; $2 smallint: the bucket of their users
SELECT e.user_id, e.seq, e.type, e.amount, e.balance_before, e.balance_after, e.source_type, e.source_id, e.batch,
       e.allocated_batches, e.allocated_points, e.at, e.duration, e.description, e.refers_to, e.asked, e.key,
       e.drawing_rule, e.paid, e.currency, e.allocated_paid
FROM unnest($1::uuid[]) AS asked (key)
CROSS JOIN LATERAL (SELECT * FROM pointsd.entries AS there WHERE there.bucket = $2::smallint AND there.key = asked.key LIMIT 1) AS e
UNION ALL
-- Keys of another service, as entries with the number 0.
SELECT t.user_id, 0, t.type, coalesce(t.amount, 0), coalesce(t.balance_before, 0), coalesce(t.balance_after, 0), t.source_type,
       t.source_id, NULL, '{}', '{}',
       -- Of a date that could not be read.
       coalesce(t.at, '1970-01-01Z'),
       -- A number that the program's type holds.
       CASE WHEN t.duration BETWEEN 0 AND 1e12 THEN round(t.duration, 9) END, t.description, NULL, NULL, asked.key,
       0::smallint, NULL, NULL, NULL
FROM unnest($1::uuid[]) AS asked (key)
CROSS JOIN LATERAL (
    SELECT there.transaction FROM pointsd.adopted_keys AS there WHERE there.bucket = $2::smallint AND there.key = asked.key LIMIT 1
) AS k
CROSS JOIN LATERAL (SELECT * FROM pointsd.adopted_transactions AS there WHERE there.id = k.transaction LIMIT 1) AS t
