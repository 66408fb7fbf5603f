
## The status page. pages.zh-CN.ftl has the same keys with the same variables; a test compares them.

page-skip = Skip to the content
page-languages = Language
page-sections = Sections
page-zone = Times are those of { $zone }
page-to-overview = To the overview

page-nav-overview = Overview
page-nav-runs = Runs
page-nav-reports = Reports
page-nav-accounts = Accounts
page-nav-requests = Requests
page-nav-orders = Orders

page-log-in = Log in
page-log-out = Log out
page-token = Token
page-token-hint = A token with the scope read shows everything; with operate it also pauses, runs and resends. An operator makes one:
page-refused-wrong = This token is not valid. It is misspelt, has ended or was revoked.
page-refused-often = Too many wrong tokens were tried. Wait a second, then try again.
page-refused-scope = This token may not read. Make one with the scope read.

page-problem-missing = There is no such page
page-problem-forbidden = This is not allowed
page-problem-away = pointsd cannot answer now
page-problem-malformed = This address has a mistake
page-problem-failed = Something went wrong

page-stale = The daemon has not answered lately: this page may be out of date.
page-figures = Figures
page-jobs = Jobs
page-job = Job
page-run = Run
page-run-number = Run { $run }
page-slot = Slot
page-state = State
page-took = Took
page-result = Result
page-rule = Rule
page-next-slot = Next slot
page-last-slot = Last slot
page-disabled = Disabled: it has no slots
page-enabled = Enabled
page-yes = Yes
page-none = None
page-never-ran = It never ran
page-progress = Progress
page-progress-of = { $percent } %: { $done } of { $total }
page-under-way = Under way
page-tries-again = Attempt { $attempt } failed. The next one starts at
page-waits-for-daemon = Waits for a daemon that continues it
page-latest-reports = Latest reports
page-no-reports = No report has been made yet.
page-report-unreadable = This report was made by another version of pointsd, which alone can show it.
page-daemons = Daemons
page-daemon = process { $process }, version { $version }, since
page-database = Database
page-paused-by = Paused by { $by } at
page-when = When it runs
page-time-zone = Time zone
page-overlap = While a run goes on
page-catch-up = Caught up after downtime
page-timeout = Longest attempt
page-retries = Further attempts
page-next-slots = Next slots
page-clock-changes = Next clock changes
page-last-runs = Last runs
page-all-runs = All runs of this job
page-no-runs = No run yet.
page-all-jobs = All jobs
page-all-states = All states
page-all-reports = All reports
page-attempt = Attempt
page-host = Host
page-process = process { $process }
page-started = Started
page-finished = Finished
page-heartbeat = Last heartbeat
page-counters = Counters
page-report = Report
page-report-number = Report { $report }
page-headline = Headline
page-mails = Mails
page-recipient = Recipient
page-written = Written
page-sent = Sent
page-attempts = Attempts
page-answer = Answer
page-no-mails = This report was mailed to no recipient.
page-accounts-at-least = { n-accounts } or more
page-as-of-time = as of
page-as-of = As of
page-open-document = Open the document
page-user = User of the account (UUID)
page-user-hint = An account is found by its user, such as 6f1c2a0e-3b57-4a53-9d6e-0c1d6a6f9b11.
page-user-wrong = This is not a UUID. Copy it whole, with or without its hyphens.
page-show = Show
page-account = Account
page-account-empty = This account has no entries yet.
page-available = Available
page-balance = Balance
page-held = Held
page-expires-next = Expires next
page-totals = Totals
page-before = In the other service, up to the takeover
page-open-batches = Open batches, by expiry
page-batch = Batch
page-source = Source
page-left = Left
page-points = Points
page-opened = Opened
page-expires = Expires
page-more-batches = More batches
page-holds = Holds
page-more-holds = More holds
page-for = For
page-since = Since
page-until = Until
page-history = History
page-entry = Entry
page-at = Time
page-type = Type
page-recorded = Recorded
page-first = Back to the first page
page-newer = Newer
page-older = Older
page-request = Request
page-request-id = Number of a request
page-request-number = Request { $request }
page-outcome = Outcome
page-enqueued = Queued
page-order = Order
page-subject = Subject
page-no-orders = No order has been given yet.

verdict-fine = All is well
verdict-look = At work, with something to look at
verdict-down = Down: no daemon is at work
concern-paused = { $job } is paused by { $by }
concern-ended = The last slot of { $job }: { $state }
concern-commit-waits = A commit has waited for a synchronous standby for { $wait }
concern-request-waits = A request has waited for { $wait }
concern-mail-waits = A mail has waited for { $wait }
concern-disk = The disk is nearly full: { $room }

figure-pending = Requests pending
figure-oldest = the oldest for { $wait }
figure-waiting = Requests waiting for another try
figure-refused = Requests refused in a day
figure-parked = Requests parked
figure-mails = Mails to send
figure-mails-parked = Mails parked
figure-findings = Open exceptions
figure-arrears = Arrears

about-expiry = Expires the points that are due
about-reconciliation = Checks the books and reports how the points moved
about-arrears = Reports the accounts that owe points
about-month_end = Reports the month that is over
about-prune = Deletes old rows

state-running = Running
state-succeeded = Succeeded
state-failed = Failed
state-skipped = Skipped
state-missed = Missed
state-cancelled = Cancelled
state-paused = Paused
state-pending = Pending
state-waiting = Waiting
state-sending = Sending
state-sent = Sent
state-posted = Posted
state-held = Held
state-released = Released
state-replayed = Replayed
state-refused = Refused
state-parked = Parked

trigger-schedule = on schedule
trigger-catch-up = caught up
trigger-manual = by hand
overlap-skip = A slot is skipped
overlap-queue = A slot waits

report-expiry = Expiry
report-reconciliation = Reconciliation
report-arrears = Arrears
report-month_end = Month end
report-adoption = Comparison

entry-recharge = Issued
entry-consume = Used
entry-expire = Expired
entry-refund = Refunded
entry-void = Voided
entry-restore = Restored
entry-adjust = Corrected
entry-opening = Brought in
op-recharge = Recharge
op-consume = Consume
op-refund = Refund
op-void = Void
op-hold = Hold
op-release = Release

total-recharged = Issued
total-consumed = Used
total-expired = Expired
total-refunded = Refunded
total-voided = Voided
total-adjusted = Corrections
total-opening = Brought in

order-pause = Pause
order-resume = Resume
order-run = Run now
order-cancel = Cancel
order-retry = Put back
order-resend = Mail again
order-back = Back
order-recorded = The order is written down with the name of your token, { $by }.
order-about-pause = All daemons skip the slots of { $label } until it is resumed. A run under way continues, and it can still be run by hand.
order-about-resume = { $label } runs at its next slot again. Slots that were skipped stay skipped.
order-about-run = { $label } runs once, now, for the present time. Doing its work twice changes nothing the second time. If it makes a report, finance gets the mails.
order-about-cancel = { $label } ends after its current transaction. Its finished work stays; the next slot does the rest.
order-about-retry = { $label } is pending again, with all its tries anew. A posting that was already written replays and changes nothing.
order-about-resend = { $label } is mailed again to every recipient that it has had. They get it a second time.
order-done-pause = { $label } is paused.
order-done-resume = { $label } is resumed.
order-done-run = { $label } runs now.
order-done-cancel = { $label } is cancelled.
order-done-retry = { $label } is pending again.
order-done-resend = { $label } is being mailed again.
order-not-done = Nothing was changed: { $why }.
not-done-busy = run { $run } of { $job } is under way already
not-done-over = there is no such run, or it is over already
not-done-request-unknown = there is no such request, or it was pruned
not-done-request-pending = it is pending already
not-done-request-done = it is done
not-done-mail-off = no mail is sent, because mail.mode is none in the configuration
not-done-no-recipients = the report has no recipients; mail.to.{ $report } in the configuration names those of later reports
not-done-report-unknown = there is no such report, or it was pruned

page-strip = { $slots ->
    [one] The last slot
   *[other] The last { $slots } slots
}
page-outage = If every daemon had been down for 36 hours until now, { $run ->
    [0] no slot
    [one] { $run } slot
   *[other] { $run } slots
} would be run and { $missed } recorded as missed.
mails-sent = { $mails } sent
mails-waiting = { $mails } waiting
mails-parked = { $mails } parked
concern-refused = { $count ->
    [one] { $count } request was refused in a day
   *[other] { $count } requests were refused in a day
}
concern-parked = { $count ->
    [one] { $count } request is parked
   *[other] { $count } requests are parked
}
concern-mails-parked = { $count ->
    [one] { $count } mail is parked
   *[other] { $count } mails are parked
}
concern-findings = { $count ->
    [one] { $count } open exception
   *[other] { $count } open exceptions
}

catch-up-none = No slot
catch-up-latest = The latest slot
catch-up-all = { $slots ->
    [one] The latest slot
   *[other] The latest { $slots } slots
}

## What a run did

run-nothing = nothing yet
run-expired = { n-points } expired ({ n-batches }, { n-accounts })
run-expired-none = no points expired
run-expired-orphans = ; { $users ->
    [one] { $users } user has
   *[other] { $users } users have
} due batches but no account: these batches were left as they are
run-expired-failed = ; what is due of { n-accounts } could not expire and was left as it is: `pointsd run reconciliation --full` says why
run-expired-part = { n-points } ({ n-batches })
run-proved = no exceptions ({ n-accounts }, { n-entries })
run-proved-exceptions = { $findings ->
    [one] { $findings } exception
   *[other] { $findings } exceptions
}, { $new } new
run-arrears = { n-points } in arrears ({ n-accounts }); { $new } new, { $cleared } cleared
run-month = { $from } to { $to }: { $issued } issued, { $used } used, { $expired } expired; closing net balance { n-points }
run-month-none = { $from } to { $to }: no figures, because no day is closed
run-month-open = ; some of its days are not closed
run-months-changed = ; closed months whose totals have changed since: { $months }
run-pruned = deleted { $parts }
run-pruned-none = nothing to delete
run-pruned-part = { $count } { $what }
run-pruned-separator = {", "}
counter-runs = runs
counter-requests = requests
counter-reports = reports
counter-findings = findings
counter-orders = orders
counter-accounts = accounts
counter-batches = batches
counter-entries = entries
counter-points = points
counter-suspects = accounts examined in full
counter-new = new
counter-resolved = resolved
counter-cleared = cleared
counter-drawn = new arrears
counter-repaid = repaid
counter-corrected = corrections
counter-unexplained = accounts with a difference
counter-undated = accounts without a begin of their arrears
counter-difference = unreconciled difference

## Why a request was not posted, by its code

refusal-malformed = The request is incomplete or contradicts itself
refusal-invalid_points = This number of points is not allowed
refusal-from_the_future = The request is dated in the future
refusal-unknown_source = The source is not configured
refusal-key_conflict = The same order or task was posted before, with other content
refusal-unknown_entry = The usage or the issue that it names was never posted
refusal-before_the_ledger = The usage or the issue that it names was posted before this ledger began
refusal-unknown_hold = The hold that it names does not exist
refusal-already_expired = The points would expire, or the hold would end, before the date of the request
refusal-already_open = The account has brought its points in before
refusal-exceeds_consumed = More points than are left of the usage
refusal-nothing_left = No points are left to refund or to void
refusal-exceeds_recharge = More points than are left of the issue
refusal-insufficient = The account does not have enough points available
refusal-account_full = The account would pass the largest number of points
refusal-account_missing = The account does not exist, although it has batches
refusal-account_damaged = Rows of the account were changed without an entry: see the open exceptions

# The statement of a customer. Charts have none of these words.
statement-title = Points statement
statement-headline = Balance on { $at }: { n-points }
statement-headline-arrears = Arrears on { $at }: { n-points }
statement-days = { $first } to { $last }
statement-period = Period
statement-opening = Opening balance
statement-closing = Closing balance
statement-entries = Entries
statement-numbers = no. { $first } to { $last }
statement-one = no. { $number }
statement-note = By the time of recording. What is recorded later stands in a later statement.
statement-rest = { $entries ->
    [one] { $entries } further entry, which is not listed
   *[other] { $entries } further entries, which are not listed
}
statement-cut = These are the first { $shown } of { $all } entries. An export of the account's entries has all.
statement-no-entries = No entries in this period.
statement-number = No.
statement-recorded = Recorded
statement-effective = Happened on
statement-happened = Happened
statement-type = Type
statement-for = For
statement-reference = Reference
statement-description = Description
statement-balance = Balance
statement-batches = Open batches
statement-overdue = { $points ->
    [one] { $points } of these points had reached its expiry and was not yet recorded as expired.
   *[other] { $points } of these points had reached their expiry and were not yet recorded as expired.
}
statement-no-batches = No points were left.
statement-no-batches-now = No points are left.
statement-opened = Issued
statement-expires = Expires
statement-never = never
statement-left = Points left
statement-holds = Reserved points
statement-holds-note = As of now. Points that are reserved are still in the balance.
statement-holds-first = { " " }At most { $shown } are listed, the next to end first; `pointsd holds` lists all of an account.
statement-holds-past = Reservations of a past time are not kept, so they are not listed here.
statement-adopted = Before the ledger
statement-adopted-note = What the service before this ledger posted, by its own time. No other figure of the statement counts it.
statement-adopted-first = { " " }These are the first { $shown } transactions; the statement of fewer days has the rest.
statement-adopted-rest = { $transactions ->
    [one] { $transactions } further transaction, which is not listed
   *[other] { $transactions } further transactions, which are not listed
}
statement-adopted-points = Points before the ledger
statement-adopted-balance = Balance before the ledger
statement-paid = Paid
statement-since = Since
statement-until = Until
table-entries = Entries
table-open-batches = Open batches
table-adopted = Before the ledger
table-holds = Reserved points

page-statement = Statement
page-statement-about = By the time of recording: the statement of a month that is over never changes.
page-month = Month
form-text = Text
form-html = Page
form-xlsx = Workbook (XLSX)
form-csv = CSV
form-json = JSON
