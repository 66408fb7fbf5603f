-- From when on the last proof looked, and when everything was last proved.
SELECT looked_from, full_at FROM reports.proof
