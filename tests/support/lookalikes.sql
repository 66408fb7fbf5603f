-- Functions of the server that take arguments of any type, or of a type that ours are cast to. A function in another schema with
-- exactly our types is called instead, if it is found.
SET search_path = public;
CREATE FUNCTION trap() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a lookalike ran'; END $$;
CREATE FUNCTION nextval(text) RETURNS bigint LANGUAGE sql AS 'SELECT public.trap()';
CREATE FUNCTION cardinality(integer[]) RETURNS integer LANGUAGE sql AS 'SELECT public.trap()::integer';
CREATE FUNCTION cardinality(bigint[]) RETURNS integer LANGUAGE sql AS 'SELECT public.trap()::integer';
CREATE FUNCTION cardinality(text[]) RETURNS integer LANGUAGE sql AS 'SELECT public.trap()::integer';
CREATE FUNCTION power(integer, integer) RETURNS double precision LANGUAGE sql AS 'SELECT public.trap()::float8';
CREATE FUNCTION width_bucket(timestamptz, timestamptz[]) RETURNS integer LANGUAGE sql AS 'SELECT public.trap()::integer';
CREATE FUNCTION unnest(uuid[]) RETURNS SETOF uuid LANGUAGE sql AS 'SELECT NULL::uuid FROM public.trap()';
CREATE FUNCTION trap_state(bigint, bigint) RETURNS bigint LANGUAGE sql AS 'SELECT public.trap()';
CREATE AGGREGATE count(bigint) (SFUNC = trap_state, STYPE = bigint, INITCOND = '0');
CREATE AGGREGATE max(bigint) (SFUNC = trap_state, STYPE = bigint, INITCOND = '0');
CREATE FUNCTION is_trap(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT public.trap() IS NULL';
CREATE OPERATOR = (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = is_trap);
