-- Lets one transaction at a time close or reopen months.
LOCK TABLE pointsd.periods IN SHARE ROW EXCLUSIVE MODE
