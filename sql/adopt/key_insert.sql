-- The keys of what was posted there: of each recharge with an order and each consume with a task, under the key that a posting without
-- one of its own has; a source by its name in the ledger. Of a key that is there twice, the first transaction. In the order of the
-- keys, so that the index grows at its end. The expression is that of pointsd.key_id and pointsd.work_key, written out, because a
-- call of these takes three times as long.
-- $1 jsonb: other names for sources
INSERT INTO pointsd.adopted_keys (key, transaction, bucket)
SELECT DISTINCT ON (key) key, id, pointsd.bucket_of(user_id)
FROM (
    SELECT id, user_id, encode(substring(uuid_send(user_id) FOR 4) || substring(sha256(uuid_send(user_id) || convert_to(
                   type || ':' || replace(replace(CASE type WHEN 'consume' THEN source_type ELSE coalesce($1::jsonb ->> source_type, source_type) END,
                                                  '\', '\\'), ':', '\:') || ':' || source_id, 'UTF8')) FOR 12), 'hex')::uuid AS key
    FROM pointsd.adopted_transactions
    WHERE type IN ('consume', 'recharge') AND user_id IS NOT NULL AND source_type IS NOT NULL AND source_id IS NOT NULL
          AND id IS NOT NULL AND amount > 0
) AS keyed
ORDER BY key, id
