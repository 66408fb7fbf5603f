-- A document without its texts and tables, which may be long.
-- $1 bigint: its number
SELECT jsonb_set(content, '{sections}', jsonb_path_query_array(content, '$.sections[*] ? (exists (@.chart))'))
FROM pointsd.documents
WHERE document = $1
