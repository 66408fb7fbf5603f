# What a business reads, in English. zh-CN.ftl has the same keys with the same variables; a test compares them.
# Numbers arrive as numbers: they choose the plural form, and are shown grouped (1,234).

## Counts, which other messages use as { n-points }

n-points = { $points ->
    [one] { $points } point
   *[other] { $points } points
}
n-accounts = { $accounts ->
    [one] { $accounts } account
   *[other] { $accounts } accounts
}
n-batches = { $batches ->
    [one] { $batches } batch
   *[other] { $batches } batches
}
n-entries = { $entries ->
    [one] { $entries } entry
   *[other] { $entries } entries
}
# $direction is `more` or `fewer`.
n-points-higher = { n-points } { $direction ->
    [more] higher
   *[fewer] lower
}
n-points-remain = { $points ->
    [one] { $points } point { $direction ->
        [more] more remains
       *[fewer] fewer remains
    }
   *[other] { $points } points { $direction ->
        [more] more remain
       *[fewer] fewer remain
    }
}

## Every report

total = Total
summary = Summary
title-of-period = { $title }, { $period }
title-as-of = { $title }, as of { $as_of }
title-made-up = { $title }, prepared on { $as_of } for the run of { $slot }
headline-of-day = { $day }: { $headline }
headline-made-up = { $day } (prepared for the run of { $slot }): { $headline }

## Tables

# Below the rows that a mail or a page shows.
more-rows = { $rows ->
    [one] and { $rows } more row
   *[other] and { $rows } more rows
}
more-rows-attached = { $rows ->
    [one] and { $rows } more row in the attachment
   *[other] and { $rows } more rows in the attachment
}
more-rows-partly-attached = { $rows ->
    [one] and { $rows } more row, { $attached } of them in the attachment
   *[other] and { $rows } more rows, { $attached } of them in the attachment
}
more-rows-in-file = { $rows ->
    [one] and { $rows } more row in { $file } of the report's folder
   *[other] and { $rows } more rows in { $file } of the report's folder
}
sheet-cut = These are the first { $shown } of { $all } rows.
sheet-cut-summed = These are the first { $shown } of { $all } rows. The formulas add up these rows only.
total-of-all = Total of all { $rows ->
    [one] { $rows } row
   *[other] { $rows } rows
}

## Words of several tables

none = none
exceptions = Exceptions
item = Item
account = Account
accounts = Accounts
batches = Batches
points = Points
source = Source
age = Age
days = Days
entry = Entry
opening = Opening
currency = Currency
value = Value
sold = Sold
recognised-on-use = Recognised on use
recognised-on-expiry = Recognised on expiry
returned = Returned
corrections = Corrections
correction = correction
unreconciled-difference = Unreconciled difference
batch = Batch
brought-in = Brought in
issued = Issued
refunded = Refunded
voided = Voided
restored = Restored
used = Used
applied-to-arrears = Applied to arrears
expired = Expired
closing = Closing
arrears-receivable = Arrears (receivable)
overdue-not-expired = Overdue, not yet expired
days-0-30 = 0-30 days
days-31-90 = 31-90 days
days-91-180 = 91-180 days
days-over-180 = Over 180 days
list-separator = {", "}

## Arrears

arrears-title = Arrears
arrears-headline = { n-points } in arrears ({ n-accounts })
arrears-headline-none = No accounts in arrears
arrears-headline-changes = ; { $new } new, { $cleared } cleared
arrears-headline-difference = ; unreconciled difference
arrears-tone-rule = The badge says “Action required” if the entries do not explain the arrears, and “Attention” if there are more than { n-points } in arrears, or more than { $percent }% above the last report.
arrears-points = Points in arrears (receivable)
arrears-accounts = Accounts in arrears
arrears-oldest = Longest in arrears since
arrears-new-accounts = Accounts newly in arrears since the last report
arrears-cleared-accounts = Accounts cleared since the last report
arrears-last-report = Last report

arrears-chart = Points in arrears, by age of the account's arrears
arrears-chart-description = One bar for each age of arrears; its height is the points in arrears.
arrears-ages = Arrears by age
arrears-ages-note = Both columns are the same arrears. By account: calendar days since the account fell below zero. By item: days since each usage, void or debt brought in that is still unpaid; repayments pay the oldest first, and so does a refund: it pays the oldest usage, not the one that it refunds.
arrears-points-by-account = Points, by age of the account's arrears
arrears-points-by-item = Points, by age of the unpaid item
arrears-age-week = 0-7 days
arrears-age-month = 8-30 days
arrears-age-quarter = 31-90 days
arrears-age-older = Over 90 days
arrears-age-unknown = Unknown

arrears-unexplained-text = { $accounts ->
    [one] The entries of { $accounts } account do not explain its arrears.
   *[other] The entries of { $accounts } accounts do not explain their arrears.
} See the table below. Next: `pointsd run reconciliation --full` names the failed check.
arrears-undated-text = { $accounts ->
    [one] { $accounts } account is in arrears, but no entry shows since when.
   *[other] { $accounts } accounts are in arrears, but no entry shows since when.
} Next: `pointsd run reconciliation --full` names the failed check.
arrears-difference-text = { $points ->
    [one] The arrears differ by { $points } point
   *[other] The arrears differ by { $points } points
} from the last report and the entries since: see “Unreconciled difference” in the roll-forward. Next: `pointsd run reconciliation --full` names the failed check.
arrears-unexplained = Accounts with an unreconciled difference
arrears-expected = Expected
arrears-actual = Actual

arrears-owed = Arrears
arrears-since = Since
arrears-cause = Cause
arrears-cause-void = points voided ({ $source })
arrears-last-entry = Last entry
arrears-item = Oldest unpaid item
arrears-item-days = Oldest unpaid item: days
arrears-item-cause = Oldest unpaid item: cause
arrears-item-reference = Oldest unpaid item: reference
arrears-item-description = Oldest unpaid item: description
arrears-item-points = Oldest unpaid item: points unpaid
arrears-all = All balances in arrears
arrears-all-note = The largest first. The attachments also have the oldest unpaid item of each account.
arrears-all-in-file = The workbook has the first { $shown } rows; { $file } in the report's folder has all of them.
arrears-all-not-in-file = The workbook has the first { $shown } rows; `pointsd arrears --csv` lists all accounts that are in arrears when it runs.

arrears-changes = Changes
arrears-first-report = This is the first report on arrears. The next one shows the changes since this one.
arrears-roll-forward = Arrears roll-forward
arrears-roll-forward-note = Since { $since }, when { $accounts ->
    [one] { $accounts } account was
   *[other] { $accounts } accounts were
} in arrears.
arrears-passing = { " " }{ $accounts ->
    [one] { $accounts } more account fell into arrears and cleared them in between.
   *[other] { $accounts } more accounts fell into arrears and cleared them in between.
}
arrears-opening = Opening: arrears in the last report
arrears-earlier-difference = Unreconciled difference of the last report
arrears-drawn = New arrears
arrears-repaid = Repaid
arrears-closing = Closing: arrears now

arrears-new = Accounts newly in arrears
arrears-new-none = No account fell into arrears.
arrears-cleared = Cleared accounts
arrears-cleared-none = No account cleared its arrears.
arrears-cleared-by = Cleared by
arrears-cleared-at = Cleared at
arrears-cleared-by-recharge = points issued ({ $source })
arrears-cleared-by-refund = points refunded ({ $source })
arrears-cleared-by-refund-alone = points refunded
arrears-cleared-by-nothing = no entry

## Journal lines

journal-sold = Points sold, { $source }
journal-used = Points used, { $source }
journal-expired = Points expired, { $source }
journal-returned = Returned to customers, { $source }
journal-corrected = Correction, { $source }

## Expiry

expiry-title = Expiry
expiry-headline = { n-points } expired ({ n-batches })
expiry-headline-none = No points expired
expiry-headline-due = ; { $points } due to expire within 30 days
expiry-headline-none-due = ; none due to expire within 30 days
expiry-headline-disproved = ; the nightly run's count differs from its entries
expiry-headline-orphans = ; batches without an account
expiry-headline-overdue = ; overdue points not yet expired
expiry-headline-difference = ; unreconciled difference in the last forecast
expiry-tone-rule = The badge says “Action required” if figures do not agree or batches have no account, and “Attention” if overdue points have not expired yet.
expiry-points = Points expired
expiry-by-sweep = Nightly run
expiry-on-activity = On account activity
expiry-batches = Batches expired
expiry-accounts = Accounts in the nightly run
expiry-due-7 = Due to expire within 7 days
expiry-due-30 = Due to expire within 30 days
expiry-due-90 = Due to expire within 90 days
expiry-overdue = Overdue, not yet expired

expiry-disproved-text = The nightly run counted other figures than its entries show. Next: `pointsd runs --job expiry` shows both.
expiry-orphans-text = { $accounts ->
    [one] Batches of { $accounts } missing account are due. They cannot expire and were left as they are.
   *[other] Batches of { $accounts } missing accounts are due. They cannot expire and were left as they are.
} Next: restore the rows of the accounts from a backup.
expiry-overdue-text = { n-points } in { n-batches }, due at this run and not yet expired: issued after the nightly run passed the account, or missed by the run. The next nightly run expires overdue points; `pointsd run expiry` does it now. If any stay, `pointsd run reconciliation --full` names the failed check.
expiry-difference-text = The entries do not explain { n-points } of the last forecast for { $day }: see “Unreconciled difference” in the last table. Rows of batches were changed without an entry. Next: `pointsd run reconciliation --full` names the batches.
expiry-differences-text = The entries do not explain { n-points } of the last forecast from { $first } to { $last }: see “Unreconciled difference” in the last table. Rows of batches were changed without an entry. Next: `pointsd run reconciliation --full` names the batches.

expiry-expired = Points expired, by source
expiry-expired-note = Since the last report, { $since }. On account activity: points past their expiry expire when their account is next used, before the nightly run.
expiry-first-report = This is the first report. Points that expired earlier on account activity are not counted.
expiry-restored = Points restored for late usage
expiry-restored-note = { " " }Restored: expired points that came back because they paid for usage before their expiry that was recorded after it.
expiry-expired-none = No points expired.
expiry-orphans = Due batches without an account
expiry-outstanding = Unused points, by source
expiry-outstanding-note = Points due to expire if they are not used before.
expiry-counted-from = { " " }Days to expiry are counted from { $from }.
expiry-outstanding-points = Unused
expiry-within-7 = Within 7 days
expiry-within-30 = Within 30 days
expiry-within-90 = Within 90 days
expiry-chart = Unused points by week of expiry
expiry-chart-description = One bar for each week; its height is the points due to expire. Below it stands the day on which the week begins.
expiry-weeks = Points due to expire, by week
expiry-weeks-note = Weeks begin on Monday; the first is the rest of the current week.
expiry-week = Week of
expiry-later = later

expiry-forecast = Forecast and actual
expiry-forecast-first = There is no earlier forecast; the next report compares.
expiry-forecast-none = No day of the last forecast is over yet.
expiry-forecast-note = Forecast + brought in + issued since + refunded - used since - voided + restored + corrections = expired + overdue + unreconciled difference. Each row covers the time since the row above it.
expiry-forecast-not-over-note = { " " }The last row shows points that have already expired on days that are not over; these days are not compared yet.
expiry-forecast-not-over = days not over
expiry-by = Expires by
expiry-forecast-points = Forecast
expiry-issued-since = Issued since
expiry-used-since = Used since
expiry-expired-points = Expired

## Reconciliation

reconciliation-title = Reconciliation

# The headline.
reconciliation-full = Reconciliation, { $day }: no exceptions ({ n-accounts }, { n-entries })
reconciliation-changes = Reconciliation, { $day }: no exceptions ({ $accounts ->
    [one] { $accounts } changed account
   *[other] { $accounts } changed accounts
}, { n-entries })
reconciliation-no-changes = Reconciliation, { $day }: no exceptions (no changes since the previous reconciliation)
reconciliation-exceptions = Reconciliation, { $day }: { $exceptions ->
    [one] { $exceptions } exception
   *[other] { $exceptions } exceptions
}, { $new } new

reconciliation-tone-rule = The badge says “Action required” if at least one exception is open.

# The summary.
scope = Scope
scope-full = All accounts, from the first entry on
scope-changes = Changes since { $from }, and accounts with open exceptions
balances-as-of = Balances as of
last-full-reconciliation = Last full reconciliation
last-full-reconciliation-never = None yet
accounts-checked = Accounts checked
batches-checked = Batches checked
entries-checked = Entries checked
new-exceptions = New exceptions
unused-points-liability = Unused points (liability)
net-balance = Net balance (liability less arrears)

# Exceptions.
open-exceptions = Open exceptions
resolved-exceptions = Resolved exceptions
no-exceptions = No exceptions.
only-the-first = The workbook has the first { $shown } of { $all }. All of them are in { $place }.
in-database-table = the database table { $table }
exception = Exception
next-step = Next step
points-difference = Points difference
expected = Expected
found = Found
failed-check = Failed check
found-since = First found
found-by-run = First found by run
status = Status
status-new = new
status-open = open
status-refused = refused
status-parked = parked
not-examined = Not examined
not-examined-text = This reconciliation examined accounts with entries recorded since { $from }, and accounts with open exceptions. If a row of another account was changed without an entry, the tie-out of all balances finds it only where it moves a total. The next full reconciliation finds the rest. Last full reconciliation: { $last }.
all-accounts = all accounts
requests-not-posted = Requests not posted
requests-not-posted-note = Refused by the rules of the ledger, or parked after too many failed tries, since the previous reconciliation. Their points are neither charged nor credited. Once the reason is mended: pointsd requests retry
request = Request
operation = Operation
operation-recharge = Issue
operation-consume = Usage
operation-refund = Refund
operation-void = Void
operation-hold = Hold
operation-release = Release
reference = Reference
reason = Reason
decided = Decided

next-repair = pointsd repair plan --user { $account }
next-restore = Restore the account's row from a backup, then: pointsd run reconciliation --full
next-reconcile = Repair the accounts with exceptions, then: pointsd run reconciliation
next-day-changed = Do not use the figures of these days. An operator compares them with their entries: docs/reconciliation.md, “When a closed day has changed”
next-day-open = No figures from this day on. An operator finds the entry: docs/reconciliation.md, “When a day cannot be closed”

# What an exception says, for each check.
finding-account_missing = Account { $account } does not exist, but it has batches, entries or holds
finding-entry_numbers = Account { $account }: entry { $entry } is missing
finding-entry_type = Entry { $entry } of account { $account }: its fields do not belong to its type
finding-entry_time = Entry { $entry } of account { $account }: it is dated after it was recorded
finding-entry_asked = Entry { $entry } of account { $account }: its refund or void does not match the points asked for
finding-entry_chain = Entry { $entry } of account { $account }: the opening balance is { n-points-higher } than the previous entry's closing balance ({ $found }, expected { $expected })
finding-entry_amount = Entry { $entry } of account { $account }: its points do not match the change in balance
finding-batch_recharge = Batch { $batch } of account { $account } does not match the entry that issued it
finding-entry_allocations = Entry { $entry } of account { $account }: its points do not match those taken from batches
finding-batch_amount = Batch { $batch } of account { $account }: { n-points-remain } than the entries explain ({ $found }, expected { $expected })
finding-batch_expired = Batch { $batch } of account { $account }: its expired points differ from its entries
finding-batch_state = Batch { $batch } of account { $account }: its status, points or dates contradict each other
finding-entry_batches = Entry { $entry } of account { $account }: it takes points from batch { $batch }, which it may not
finding-entry_restored = Entry { $entry } of account { $account }: it restores points of batch { $batch } that had not expired, or that no usage draws
finding-refund_consume = Entry { $entry } of account { $account }: the refund exceeds its usage, or belongs to another one
finding-refund_batch = Entry { $entry } of account { $account }: batch { $batch } of the refund does not match the batch that the points were drawn from
finding-batch_paid = Batch { $batch } of account { $account }: its price is not that of the issue that opened it
finding-entry_paid = Entry { $entry } of account { $account }: it released another part of a batch's price than its points have
finding-entry_price = Entry { $entry } of account { $account }: the money that it gives back is not what the points had released
finding-void_recharge = Entry { $entry } of account { $account }: voids and expiry took more points than were issued, or the void belongs to another issue
finding-hold_consume = Account { $account }: a hold does not match its usage
finding-account_balance = Account { $account }: the balance is { n-points-higher } than the last entry shows ({ $found }, expected { $expected })
finding-account_totals = Account { $account }: the lifetime totals differ from the sums of its entries
finding-account_expiry = Account { $account }: the recorded date of its latest expiry is wrong
finding-account_numbers = Account { $account }: the number of its last entry, last batch or open holds is wrong
finding-account_identity = Account { $account }: the balance is { n-points-higher } than its lifetime totals explain ({ $found }, expected { $expected })
finding-account_remaining = Account { $account }: { n-points-remain } in its batches than its balance explains ({ $found }, expected { $expected })
finding-history_changed = Account { $account }: entries or batches have been changed since they were reconciled
finding-days_balance = All accounts: the net balance is { n-points-higher } than the roll-forward ({ $found }, expected { $expected })
finding-days_money = All accounts: deferred revenue differs from the roll-forward
finding-days_source = All accounts: points by source differ from the roll-forward
finding-day_changed = A closed business day no longer agrees with its entries
finding-day_open = A business day cannot be closed, nor the days after it: a figure exceeds the largest one that can be added up
finding-other = Check { $check } failed ({ $account })
finding-found = { $sentence }. Found: { $found }
finding-differs = { $sentence }. Difference: { n-points-higher }

# The values of an exception.
value-opened = brought in { $value }
value-recharged = issued { $value }
value-consumed = used { $value }
value-expired = expired { $value }
value-refunded = refunded { $value }
value-voided = voided { $value }
value-adjusted = corrections { $value }
value-restored = restored { $value }
value-settled = applied to arrears { $value }
value-opening = opening { $value }
value-closing = closing { $value }
value-source = source { $value }
value-owed = arrears { $value }
value-difference = { $found } (expected { $expected }, { $difference } { $direction ->
    [more] more
   *[fewer] fewer
})
value-instead = { $found } (expected { $expected })
value-sold = sold { $value }
value-used = recognised on use { $value }
value-returned = returned { $value }
value-corrected = corrections { $value }
values-separator = {"; "}
values-place = { $day }, { $source }
value-and-more = and { $value } more
value-last_seq = last entry { $value }
value-last_batch = last batch { $value }
value-open_holds = open holds { $value }
value-remaining = remaining { $value }
value-amount = points { $value }
value-balance_before = opening balance { $value }
value-balance_after = closing balance { $value }
value-batch = batch { $value }
value-entry = entry { $value }

# The roll-forward.
roll-forward = Points roll-forward
promotional-points = Promotional points
promotional-points-note = Unused points of promotional sources. They have no price, so no revenue is deferred for them.
promotional-points-valued = Unused points of promotional sources, valued at { $price } a point. No revenue is deferred for them.
promotional-points-none = No promotional points are unused.
deferred-revenue-of-day = Deferred revenue, { $day }
deferred-revenue-note = What customers paid for points, until the points are used, expire or are returned. Opening + brought in + sold + the recognised and returned amounts + corrections = closing.
roll-forward-of-day = Points roll-forward, { $day }
roll-forward-note = By the date on which entries were recorded. Applied to arrears: issued or refunded points that repaid the account's arrears at once, so that the arrears fall by the same amount.
roll-forward-brought-in = { " " }Brought in: points and debts that accounts had elsewhere.
roll-forward-refunded = { " " }Refunded: used points given back.
roll-forward-voided = { " " }Voided: issued points taken back, such as after a chargeback.
roll-forward-restored = { " " }Restored: expired points that came back because they paid for usage before their expiry that was recorded after it.
days-together = { $days ->
    [one] { $days } day
   *[other] { $days } days together
}
roll-forward-of-days = Points roll-forward of { $days ->
    [one] this day
   *[other] these { $days } days
}, by source
roll-forward-of-month = Points roll-forward, { $month } (whole month)
business-days = Business days since the previous reconciliation
business-day = Business day
no-business-day-then = No business day had been closed before the run of this report.
day-made-up = { $day } (prepared on { $made_up })
roll-forward-in-words = { $day }: { $figures }.
roll-forward-figure = { $label } { $value }
figure-separator = {", "}
nothing-recorded-yet = Nothing has been recorded yet. The first business day is the day of the first entry.
no-business-day-yet = No business day has ended yet. The figures below are those recorded so far; the first business day is closed shortly after it ends.

# From the last closing to the accounts.
tie-out = Tie-out to account balances
closing-of-day = Closing, { $day }
recorded-since = Recorded since
expected-net-balance = Expected net balance
net-balance-of-accounts = Net balance of all accounts
days-recomputed = All closed business days were recomputed from their entries for this tie-out.

# Unused points.
unused-by-age = Unused points by age
unused-none = There are no unused points.
unused-by-age-note = Days since the points were issued or refunded.
unused-by-expiry = Unused points by time to expiry
unused-by-expiry-note = Days until expiry. Overdue points expire in the next nightly run, or with the account's next activity.
time-to-expiry = Time to expiry

# The checks, and what each requires.
checks-performed = Checks performed
check = Check
requirement = Requirement
rule-account_missing = Every batch, entry and hold belongs to an existing account.
rule-entry_numbers = The entries of an account are numbered 1, 2, 3 … without gaps.
rule-entry_type = The type of an entry is known, and its fields belong to that type.
rule-entry_time = No entry is dated more than five minutes after it was recorded.
rule-entry_asked = A refund or a void posts the points that were asked for, in consecutive entries.
rule-entry_chain = The opening balance of an entry is the closing balance of the previous one.
rule-entry_amount = An entry changes the balance by its points, which are 1 to 1,000,000,000,000.
rule-batch_recharge = Each batch matches the entry that issued it: points, source and time. No batch has another origin.
rule-entry_allocations = The points that an entry takes from batches add up to the entry, and the batches exist.
rule-batch_amount = The points of a batch are those that remain plus those that entries took.
rule-batch_expired = The expired points of a batch are those that its entries expired, less those that were restored.
rule-batch_state = A batch is open while points remain, never has more points than it was issued with, and expires at a date after it was opened.
rule-entry_batches = Points are used or voided before they expire, and expire in full once they are due. Only points used before their expiry are restored.
rule-entry_restored = Points restored for late usage had expired before, and the usage that follows draws them.
rule-refund_consume = A refund belongs to one usage, and the refunds of a usage never exceed it.
rule-refund_batch = Refunded points return to the source that they were drawn from, and do not expire earlier than before.
rule-batch_paid = A batch has the price of the entry that opened it.
rule-entry_paid = A batch has released the part of its price that belongs to all points that are gone, to the minor unit.
rule-entry_price = A refund gives back what the points had released, a void their part of the price.
rule-void_recharge = A void belongs to one issue of points. What an issue lost by voids and expiry never exceeds it.
rule-hold_consume = A completed hold names its usage, dated no later than the hold. An open hold has no usage yet.
rule-account_balance = The balance of an account is the closing balance of its last entry.
rule-account_totals = The lifetime totals of an account are the sums of its entries.
rule-account_numbers = An account records its last entry, its last batch and its open holds correctly.
rule-account_expiry = An account records its latest expiry correctly.
rule-account_identity = Balance = brought in + issued - used - expired + refunded - voided + corrections.
rule-account_remaining = The points that remain in an account's batches are its balance, or zero if it is in arrears.
rule-history_changed = Entries and batches have not changed since they were reconciled.
rule-days_balance = The roll-forward of all business days agrees with the net balance of all accounts.
rule-days_money = By currency and source, the roll-forward of deferred revenue agrees with what the open batches have not released.
rule-days_source = By source, the roll-forward agrees with the points that remain in batches, and with the arrears.
rule-day_changed = A closed business day does not change.
rule-day_open = Every business day that is over can be closed.

## Bridges between figures that nearly mean the same

moved-since = { $movement } since
bridge-closing = From the last closing to unused points and arrears
bridge-closing-note = The last line has the points left in batches and the arrears of accounts. Liability less arrears is the net balance.
bridge-found = Unused points and arrears now
bridge-net = Net balance
bridge-arrears = Arrears and net balance
bridge-arrears-note = By the entries recorded up to the date of this report.
bridge-less-arrears = Less arrears (receivable)
bridge-expiry = From this report to the business day { $day }
bridge-expired = Points expired in this report
bridge-before-day = Less: recorded before { $day }
bridge-after-day = Less: recorded after { $day }
bridge-before-report = Plus: recorded on { $day } before this report begins
bridge-of-day = Points expired on the business day { $day }

## Month end and other spans of business days

month_end-title = Month end
period-title = Period
period-days = { $from } to { $to }
period-headline = { $period }: { $issued } issued, { $used } used, { $expired } expired; closing net balance { n-points }
period-headline-none = { $period }: no figures, because no day is closed
period-tone-rule = The badge says “Action required” if the totals of a closed month have changed, and “Attention” if a day of the period is not closed.
period-nothing = No points moved, and there are none.
period-closed-to = Not all days of the period are closed: the figures end with { $day }. Next: `pointsd run reconciliation` closes days that are over, and says why one cannot be closed.
period-changed = { $month } is closed, but its totals have changed since: { $totals }. Next: `pointsd period list` shows them; find out why, then reopen the month and close it again.
period-changed-total = { $source } closed with { $kept }, now { $now }
period-changed-figure = { $source }, { $figure }: { $kept } when it was closed, now { $now }
period-changed-open = { $source } closed with { $kept }, now its last day is open
period-not-closed = No day of the period is closed. Next: `pointsd run reconciliation` closes days that are over, and says why one cannot be closed.
last-closed-month = Last closed month
period-closed-at = Month closed
period-first-day = First business day
period-last-day = Last business day
period-closing = Closing net balance
period-comparison = Comparison with the period before
period-comparison-none = The period before is not closed, so there is nothing to compare with.
period-comparison-note = The period before is { $before }. All sources and arrears together.
period-this = This period
period-before = Period before
period-change = Change
period-late = Recorded late
period-late-note = Entries recorded in the period that took effect before it, by the month in which they took effect. They are part of the roll-forward of this period.
period-late-none = No entry was recorded late.
month = Month
movement = Movement
entries = Entries
period-late-entries = Recorded late, one by one
period-late-cut = The workbook has the first { $shown } of { $all }, postings before expirations. `pointsd export entries --recorded-from { $from } --recorded-to { $to } --at-to { $from }` lists all of them.
period-effective = Took effect
period-due = Due in the period, expired later
period-due-note = Points past their expiry at the end of the period that the books still held then, and what became of them since. Usage from before the expiry may be recorded after the end.
period-due-none = All points that were due had expired in the books.
period-due-held = Held at the end
period-due-expired = Expired since
period-due-used = Used since
period-due-other = Voided or corrected since
period-single = Corrections, refunds and voids
period-single-none = There was no correction, refund or void.
period-recorded = Recorded
period-by = By
period-in-file = { $file } of the report's folder
period-in-export = the output of `pointsd export entries --type refund --recorded-from { $from } --recorded-to { $to }`, and of the same with void and adjust
period-breakage = Breakage by month of issue
period-breakage-note = What became of all points issued or refunded before the end of the period, by the month in which that took effect, as of the date of this report. Points given back by a refund are used once, and stand as refunded in the refund's month. Used includes points applied to arrears and corrections. Each percentage is of what was issued, refunds included.
period-breakage-none = No points were issued.
period-issued-in = Issued in
period-open = Unused
used-percent = Used, %
voided-percent = Voided, %
expired-percent = Expired, %
open-percent = Unused, %

## Mails and pages

tone-good = No exceptions
tone-attention = Attention
tone-bad = Action required
# $report: a headline of reconciliation has the words itself.
subject-good = { $report ->
    [reconciliation] { $headline }
   *[other] { tone-good }: { $headline }
}
subject-attention = { tone-attention }: { $headline }
subject-bad = { tone-bad }: { $headline }
named-value = { $name }: { $value }
footer-as-of = As of { $as_of }. All times are in the time zone { $zone }.
footer-made-by = Run { $run } of pointsd, for { $slot }.
file-first-rows = -first-{ $rows }
attachment-cut = { $file } has the first { $shown } of { $all } rows.
attachment-whole = { $file } has all { $all } rows of “{ $table }”.
report-link = This report on the status page: { $url }
report-files = The files of this report are on { $host } in the folder { $folder }. If one of them has all rows, the note above the table names it.
not-attached = Not attached, because attachments are limited to { $limit } MB in total: { $files }. All files of this report are on { $host } in the folder { $folder }.

# The sheet of a workbook that checks sums.
cross-foot = Cross-foot
cross-foot-parts = Sum of parts
cross-foot-shown = Figure
cross-foot-difference = Difference
cross-foot-result = Result
cross-foot-ok = OK
cross-foot-differs = Difference
cross-foot-rows = { $table }: each row adds up to its { $column }
cross-foot-lines = { $table }, { $column }: the lines add up to the last one
cross-foot-same = { $table }, { $column } = { $other }, { $title }

# The names of sheets and attachments.
table-findings = Open exceptions
table-resolved = Resolved exceptions
table-requests-not-posted = Requests not posted
table-promotional-points = Promotional points
table-deferred-revenue = Deferred revenue
table-roll-forward = Roll-forward
table-business-days = Business days
table-tie-out = Tie-out
table-outstanding-by-age = Unused by age
table-outstanding-by-expiry = Unused by expiry
table-rules = Checks
table-ages = Arrears by age
table-unexplained = Unreconciled
table-new = New in arrears
table-cleared = Cleared
table-owing = All balances
table-expired = Expired
table-without-account = Without account
table-outstanding = Unused by source
table-weeks = Due by week
table-forecast = Forecast and actual
table-comparison = Comparison
table-recorded-late = Recorded late
table-late-entries = Late entries
table-due-not-booked = Expired later
table-single-entries = Single entries
table-breakage = Breakage
table-bridge = Bridge
table-net-balance = Net balance

## Plan of an adoption

adopt-title = Plan of a takeover
adopt-headline = { n-accounts }; points: { $points }, debts: { $debts }
adopt-headline-problems = ; something has to be decided first
adopt-tone-rule = The badge says “Action required” if the ledger would refuse a part of the plan, and “Attention” if something is wrong in the tables.
adopt-read-from = Read from
adopt-read-at = Read at
adopt-plan = Plan
adopt-before = Before: the tables of the other service
adopt-after = After: what this ledger opens with
adopt-bridge = From the old balances to the new ones
adopt-bridge-note = Points less debts.
adopt-classes = What is wrong, and what becomes of it
adopt-classes-none = Nothing is wrong: balances, batches and history agree.
adopt-examples = Examples: of each class, the accounts with the most points
adopt-problems = To be decided first
adopt-sign = Control totals
adopt-sign-note = Checked by: ____________________   Date: ____________
adopt-what = What
adopt-count = Number
adopt-rows = Times
adopt-becomes = What becomes of it
adopt-unreleased = Not released yet
adopt-accounts-with-points = Accounts with points
adopt-accounts-in-debt = Accounts with a debt
adopt-accounts-all = All accounts
adopt-batches-with-points = Batches with points
adopt-transactions = Transactions
adopt-points-of = Points: { $source }
adopt-debts = Debts
adopt-forgiven = Given back: debts charged twice
adopt-balances-before = Balances there
adopt-by-left-out = Accounts left out
adopt-by-batches = Batches counted instead of balances
adopt-by-expired = Points left out, because they had expired
adopt-by-orphans = Points of batches without an account
adopt-by-forgiven = Debts charged twice, given back
adopt-balances-after = Balances here
adopt-user = User there
adopt-class-balance_above_batches = The balance is more than the batches hold
adopt-class-batches_above_balance = The batches hold more than the balance
adopt-class-points_beside_debt = A debt, although batches hold points
adopt-class-debt_charged_twice = A debt that points had paid was charged again when they expired
adopt-class-points_expired = Points that have expired and are still there
adopt-class-posted_twice = An order or a task was posted more than once
adopt-class-history_broken = A transaction does not begin where the one before ended
adopt-class-balance_changed_by_hand = The balance is not the one after the last transaction
adopt-class-totals_differ = Lifetime totals are not the sums of the transactions
adopt-class-debt_without_date = A debt, and no transaction says since when
adopt-class-batches_without_account = Batches with points whose account is gone
adopt-class-history_without_account = Transactions whose account is gone
adopt-class-account_in_use = Accounts that the ledger has entries of already
adopt-class-account_unreadable = Rows of accounts without a user or a balance that can be read
adopt-class-batches_left_out = Batches with points of accounts that are left out
adopt-class-account_twice = Several accounts of one user
adopt-class-batch_unreadable = Rows of batches without a user, points or an end that can be read
adopt-class-batch_id_twice = Several batches of one account with the same id
adopt-class-price_unreadable = Batches whose price cannot be read, or has no currency
adopt-class-transaction_of_other_type = Transactions other than recharge, consume and expire
adopt-class-transaction_unreadable = Rows of transactions without a user, points or a time that can be read
adopt-becomes-batch-added = The balance stays: the difference becomes a batch of the source { $source }.
adopt-becomes-batches-kept = The batches stay: the balance becomes what they hold.
adopt-becomes-batches-cut = The balance stays: the batches are cut, the soonest end first.
adopt-becomes-debt-kept = The debt stays; the points are not brought along.
adopt-becomes-debt-dropped = The points stay; the debt is not brought along.
adopt-becomes-twice-kept = It stays as it was charged.
adopt-becomes-twice-forgiven = A recharge of the source { $source } gives it back.
adopt-becomes-expired-kept = The points stay, until { $until }.
adopt-becomes-expired-left = The points are left out.
adopt-becomes-posted-twice = Nothing: the balance stays. From now on, the key replays.
adopt-becomes-balance-kept = Nothing: the balance stays.
adopt-becomes-totals-kept = The totals of the account are shown.
adopt-becomes-dated = The debt begins when the tables were read.
adopt-becomes-orphans-left = The points are left out.
adopt-becomes-orphans-kept = The batches become an account.
adopt-becomes-history-kept = The transactions are kept for statements.
adopt-becomes-left-out = The rows are left out.
adopt-becomes-in-use = The ledger refuses openings after other entries; `pointsd adopt apply` names each that it refuses.
adopt-becomes-account-left-out = The accounts are left out. To bring them along, read one row for each user in accounts.table or accounts.where, and plan again.
adopt-becomes-numbered = All are brought along; further ones get a number behind the id.
adopt-becomes-not-known = Their keys do not become known. Statements show those with a user and a time.
adopt-becomes-unpriced = The points stay, without a price.
adopt-becomes-history-alone = They are kept for statements; what they name does not replay.
adopt-comparison-title = Comparison with the other service
adopt-comparison-tone-rule = The badge says “Attention” if a balance differs.
adopt-equal = All balances agree ({ n-accounts })
adopt-different = { n-accounts } with different balances
adopt-compared = Accounts compared
adopt-differing = Accounts with different balances
adopt-sums = From the balances there to those here
adopt-sums-note = Since the tables were read, as far as both count it. What the plan decided counts as no difference.
adopt-balances-there = Balances there
adopt-by-decisions = What the plan decided
adopt-by-recharges = Recharges that only one of the two has
adopt-by-uses = Uses that only one of the two has
adopt-by-expiry = Expiry that only one of the two has
adopt-by-other = Unexplained, such as changes by hand there
adopt-differing-accounts = Accounts with the largest differences
adopt-there = There
adopt-here = Here
adopt-decisions = Decided
adopt-recharges = Recharges
adopt-uses = Uses
adopt-expiry = Expiry
adopt-other = Unexplained
table-adopt-sums = Sums
table-adopt-differing = Differences
table-adopt-before = Before
table-adopt-after = After
table-adopt-bridge = Old and new balances
table-adopt-classes = What is wrong
table-adopt-examples = Examples
