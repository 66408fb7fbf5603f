-- Which of a group's keys are taken, and by which entries. A key's sixteen bytes have the user in them.
-- $1 uuid[]: the keys
SELECT e.user_id, e.seq, e.type, e.amount, e.balance_before, e.balance_after, e.source_type, e.source_id, e.batch,
       e.allocated_batches, e.allocated_points, e.at, e.duration, e.description, e.refers_to, e.asked, e.key,
       e.drawing_rule, e.paid, e.currency, e.allocated_paid
FROM unnest($1::uuid[]) AS asked (key)
JOIN pointsd.entries AS e ON e.bucket = 0 AND e.key = asked.key
