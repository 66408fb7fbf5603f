-- Rights in the schema that a role has as PUBLIC or as a member of another role. A grant to the role itself takes none back.
-- A function that runs with the rights of its caller gives none, so it is left out.
-- $1 text: the role. A row for each object: the other role, the rights, the object, and the statement that takes them back.
WITH object AS (
    SELECT 'SCHEMA ' || n.nspname AS name, NULL::text AS columns, n.nspacl AS rights
    FROM pg_catalog.pg_namespace AS n WHERE n.nspname = 'pointsd'
    UNION ALL
    SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || format('pointsd.%I', c.relname), NULL, c.relacl
    FROM pg_catalog.pg_class AS c WHERE c.relnamespace = 'pointsd'::regnamespace
    UNION ALL
    SELECT 'TABLE ' || format('pointsd.%I', c.relname), quote_ident(a.attname), a.attacl
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid
    WHERE c.relnamespace = 'pointsd'::regnamespace
    UNION ALL
    SELECT 'FUNCTION ' || p.oid::regprocedure, NULL, coalesce(p.proacl, acldefault('f', p.proowner))
    FROM pg_catalog.pg_proc AS p WHERE p.pronamespace = 'pointsd'::regnamespace AND p.prosecdef
), has AS (
    SELECT o.name, CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END AS through,
           string_agg(x.privilege_type || coalesce(' (' || o.columns || ')', ''), ', ' ORDER BY x.privilege_type, o.columns) AS rights
    FROM pg_catalog.pg_roles AS r, object AS o, aclexplode(o.rights) AS x
    WHERE r.rolname = $1 AND x.grantee <> r.oid AND (x.grantee = 0 OR pg_has_role(r.oid, x.grantee, 'MEMBER'))
    GROUP BY o.name, x.grantee, o.columns IS NULL
)
SELECT through, rights, name AS object, format('REVOKE %s ON %s FROM %s;', rights, name, through) AS revoke
FROM has
UNION ALL
SELECT g.rolname, CASE g.rolname WHEN 'pg_read_all_data' THEN 'SELECT' ELSE 'INSERT, UPDATE, DELETE' END, 'all tables',
       format('REVOKE %s FROM %I;', g.rolname, r.rolname)
FROM pg_catalog.pg_roles AS r, pg_catalog.pg_roles AS g
WHERE r.rolname = $1 AND g.rolname IN ('pg_read_all_data', 'pg_write_all_data') AND pg_has_role(r.oid, g.oid, 'MEMBER')
ORDER BY 1, 3
