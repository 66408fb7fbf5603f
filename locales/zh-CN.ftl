# 业务方阅读的中文文本。键与变量须与 en.ftl 完全一致，由测试核对。

## 数量，供其他文本引用

n-points = { $points } 积分
n-accounts = { $accounts } 个账户
n-batches = { $batches } 个批次
n-entries = { $entries } 笔分录
n-points-higher = { $direction ->
    [more] 多
   *[fewer] 少
} { n-points }
n-points-remain = { $direction ->
    [more] 多
   *[fewer] 少
} { n-points }

## 所有报告

total = 合计
summary = 摘要
title-of-period = { $period }{ $title }
title-as-of = { $title }（截至 { $as_of }）
title-made-up = { $title }（{ $as_of } 补做，原定 { $slot }）
headline-of-day = { $day }：{ $headline }
headline-made-up = { $day }（补 { $slot }）：{ $headline }

## 表格

more-rows = 另有 { $rows } 行
more-rows-attached = 另有 { $rows } 行，见附件
more-rows-partly-attached = 另有 { $rows } 行，其中 { $attached } 行见附件
more-rows-in-file = 另有 { $rows } 行，见报告文件夹中的 { $file }
sheet-cut = 此表仅列出 { $all } 行中的前 { $shown } 行。
sheet-cut-summed = 此表仅列出 { $all } 行中的前 { $shown } 行，公式仅对这些行求和。
total-of-all = 全部 { $rows } 行合计

## 多个表格共用的词

none = 无
exceptions = 差异事项
item = 项目
account = 账户
accounts = 账户数
batches = 批次数
points = 积分
source = 来源
age = 账龄
days = 天数
entry = 分录号
opening = 期初
currency = 币种
value = 价值
sold = 销售
recognised-on-use = 使用确认
recognised-on-expiry = 过期确认
returned = 已退款
corrections = 更正
correction = 更正
unreconciled-difference = 未调节差额
batch = 批次
issued = 发放
brought-in = 转入
refunded = 退还
voided = 撤销
restored = 恢复
used = 使用
applied-to-arrears = 抵扣欠费
expired = 过期
closing = 期末
arrears-receivable = 欠费积分（应收）
overdue-not-expired = 已到期未处理
days-0-30 = 0-30 天
days-31-90 = 31-90 天
days-91-180 = 91-180 天
days-over-180 = 180 天以上
list-separator = 、

## 欠费报告

arrears-title = 欠费报告
arrears-headline = 欠费 { n-points }（{ n-accounts }）
arrears-headline-none = 没有欠费账户
arrears-headline-changes = ；新增 { $new } 个，结清 { $cleared } 个
arrears-headline-difference = ；存在未调节差额
arrears-tone-rule = 标记规则：分录无法解释欠费时为“需关注”；欠费超过 { n-points }，或比上次报告增加超过 { $percent }% 时为“提示”。
arrears-points = 欠费积分（应收）
arrears-accounts = 欠费账户
arrears-oldest = 最早欠费时间
arrears-new-accounts = 上次报告以来新增欠费账户
arrears-cleared-accounts = 上次报告以来结清账户
arrears-last-report = 上次报告时间

arrears-chart = 欠费积分（按账户账龄）
arrears-chart-description = 每个账龄区间一根柱，高度为该区间的欠费积分。
arrears-ages = 欠费账龄
arrears-ages-note = 两列为同一笔欠费积分的两种账龄。按账户：自账户余额转负之日起的自然日。按明细：自每笔尚未偿还的使用、撤销或转入欠费发生之日起的自然日；还款（包括退还）先偿还最早的欠费，退还不一定抵减被退还的那笔使用。
arrears-points-by-account = 积分（按账户账龄）
arrears-points-by-item = 积分（按明细账龄）
arrears-age-week = 0-7 天
arrears-age-month = 8-30 天
arrears-age-quarter = 31-90 天
arrears-age-older = 90 天以上
arrears-age-unknown = 未知

arrears-unexplained-text = { n-accounts }的欠费与其分录不符，明细见下表。下一步：运行 `pointsd run reconciliation --full`，查明未通过的核对规则。
arrears-undated-text = { $accounts } 个欠费账户没有使余额转负的分录，无法确定欠费起始时间。下一步：运行 `pointsd run reconciliation --full`，查明未通过的核对规则。
arrears-difference-text = 当前欠费与上次报告及其后分录相差 { n-points }，见欠费变动表中的“未调节差额”。下一步：运行 `pointsd run reconciliation --full`，查明未通过的核对规则。
arrears-unexplained = 存在未调节差额的账户
arrears-expected = 应欠
arrears-actual = 实欠

arrears-owed = 欠费积分
arrears-since = 欠费起始
arrears-cause = 欠费原因
arrears-cause-void = 撤销（{ $source }）
arrears-last-entry = 最近分录
arrears-item = 最早未偿还明细
arrears-item-days = 最早未偿还明细：天数
arrears-item-cause = 最早未偿还明细：原因
arrears-item-reference = 最早未偿还明细：编号
arrears-item-description = 最早未偿还明细：说明
arrears-item-points = 最早未偿还明细：未偿还积分
arrears-all = 全部欠费账户
arrears-all-note = 按欠费积分从多到少排列。附件另列每个账户最早的未偿还明细。
arrears-all-in-file = 工作簿列出前 { $shown } 行；完整清单见报告文件夹中的 { $file }。
arrears-all-not-in-file = 工作簿列出前 { $shown } 行；完整清单可用 `pointsd arrears --csv` 实时导出。

arrears-changes = 变动
arrears-first-report = 这是第一份欠费报告，自下一份起列示期间变动。
arrears-roll-forward = 欠费变动表
arrears-roll-forward-note = 自 { $since } 起，当时有 { n-accounts }欠费。
arrears-passing = 期间另有 { n-accounts }欠费后已结清。
arrears-opening = 期初：上次报告欠费
arrears-earlier-difference = 上次报告的未调节差额
arrears-drawn = 新增欠费
arrears-repaid = 偿还
arrears-closing = 期末：当前欠费

arrears-new = 新增欠费账户
arrears-new-none = 没有新增欠费账户。
arrears-cleared = 已结清账户
arrears-cleared-none = 没有结清欠费的账户。
arrears-cleared-by = 结清方式
arrears-cleared-at = 结清时间
arrears-cleared-by-recharge = 发放（{ $source }）
arrears-cleared-by-refund = 退还（{ $source }）
arrears-cleared-by-refund-alone = 退还
arrears-cleared-by-nothing = 没有对应的分录

## 日记账

journal-sold = 积分销售（{ $source }）
journal-used = 积分使用（{ $source }）
journal-expired = 积分过期（{ $source }）
journal-returned = 退回客户（{ $source }）
journal-corrected = 更正（{ $source }）

## 积分过期报告

expiry-title = 积分过期报告
expiry-headline = { n-points }已过期（{ n-batches }）
expiry-headline-none = 没有积分过期
expiry-headline-due = ；未来 30 天将到期 { n-points }
expiry-headline-none-due = ；未来 30 天没有将到期的积分
expiry-headline-disproved = ；每晚过期处理的计数与分录不符
expiry-headline-orphans = ；存在无账户的批次
expiry-headline-overdue = ；有已到期未处理的积分
expiry-headline-difference = ；上次预测存在未调节差额
expiry-tone-rule = 标记规则：数字不符或存在无账户的批次时为“需关注”；有已到期未处理的积分时为“提示”。
expiry-points = 过期积分
expiry-by-sweep = 每晚过期处理
expiry-on-activity = 账户交易时过期
expiry-batches = 过期批次
expiry-accounts = 每晚过期处理涉及账户
expiry-due-7 = 未来 7 天将到期
expiry-due-30 = 未来 30 天将到期
expiry-due-90 = 未来 90 天将到期
expiry-overdue = 已到期未处理

expiry-disproved-text = 每晚过期处理的计数与其分录不符。下一步：运行 `pointsd runs --job expiry`，查看两者的数字。
expiry-orphans-text = 有 { $accounts } 个不存在的账户名下仍有到期批次，无法作过期处理，已原样保留。下一步：从备份恢复这些账户的记录。
expiry-overdue-text = 有 { n-batches }共 { n-points }在计划时间已到期，但尚未处理：在每晚过期处理之后才入账，或被遗漏。下一次每晚过期处理将使其过期，也可立即运行 `pointsd run expiry`；如仍存在，请运行 `pointsd run reconciliation --full`，查明未通过的核对规则。
expiry-difference-text = 上次预测中截至 { $day } 到期的积分，有 { n-points }没有对应分录，见末表“未调节差额”。批次数据曾在没有分录的情况下被改动。下一步：运行 `pointsd run reconciliation --full`，查明相关批次。
expiry-differences-text = 上次预测中 { $first } 至 { $last } 到期的积分，有 { n-points }没有对应分录，见末表“未调节差额”。批次数据曾在没有分录的情况下被改动。下一步：运行 `pointsd run reconciliation --full`，查明相关批次。

expiry-expired = 过期积分（按来源）
expiry-expired-note = 自上次报告（{ $since }）起。账户交易时过期：账户发生交易时，其已到期的积分先行过期，不待每晚过期处理。
expiry-first-report = 这是第一份报告，此前账户交易时过期的积分未计入。
expiry-restored = 因补记使用恢复的积分
expiry-restored-note = 恢复：到期前的使用在到期后才入账，为此恢复的已过期积分。
expiry-expired-none = 没有积分过期。
expiry-orphans = 无账户的到期批次
expiry-outstanding = 未使用积分（按来源）
expiry-outstanding-note = 各到期栏：届时如仍未使用，即会过期的积分。
expiry-counted-from = 到期天数自 { $from } 起算。
expiry-outstanding-points = 未使用
expiry-within-7 = 7 天内到期
expiry-within-30 = 30 天内到期
expiry-within-90 = 90 天内到期
expiry-chart = 未使用积分（按到期周）
expiry-chart-description = 每周一根柱，高度为该周将到期的积分，下方为该周起始日。
expiry-weeks = 将到期积分（按周）
expiry-weeks-note = 每周自周一起算，首行为本周剩余部分。
expiry-week = 起始日
expiry-later = 更晚

expiry-forecast = 预测与实际
expiry-forecast-first = 此前没有预测，自下一份报告起比较。
expiry-forecast-none = 上次预测的各日均未结束，暂无可比数据。
expiry-forecast-note = 预测 + 转入 + 其后发放 + 退还 - 其后使用 - 撤销 + 恢复 + 更正 = 过期 + 已到期未处理 + 未调节差额。每行为上一行之后至该时刻到期的积分。
expiry-forecast-not-over-note = 末行为尚未结束的各日中已经过期的积分，这些日期暂不比较。
expiry-forecast-not-over = 未结束的日期
expiry-by = 到期截止
expiry-forecast-points = 预测
expiry-issued-since = 其后发放
expiry-used-since = 其后使用
expiry-expired-points = 过期

## 对账报告

reconciliation-title = 积分对账报告

# 标题句。
reconciliation-full = { $day }对账无差异（{ n-accounts }，{ n-entries }）
reconciliation-changes = { $day }对账无差异（有变动的账户 { $accounts } 个，{ n-entries }）
reconciliation-no-changes = { $day }对账无差异（自上次对账以来没有变动）
reconciliation-exceptions = { $day }对账有 { $exceptions } 项差异，其中新增 { $new } 项

reconciliation-tone-rule = 标记规则：至少有一项未消除的差异时为“需关注”。

# 摘要。
scope = 对账范围
scope-full = 全部账户，自首笔分录起
scope-changes = 自{ $from } 以来的变动，以及有未消除差异的账户
balances-as-of = 余额时点
last-full-reconciliation = 上次全面对账
last-full-reconciliation-never = 尚未进行
accounts-checked = 核对账户数
batches-checked = 核对批次数
entries-checked = 核对分录数
new-exceptions = 新增差异
unused-points-liability = 未使用积分（负债）
net-balance = 净余额（未使用积分减欠费）

# 差异。
open-exceptions = 未消除的差异
resolved-exceptions = 已消除的差异
no-exceptions = 无差异。
only-the-first = 工作簿列出前 { $shown } 项，共 { $all } 项。完整清单见{ $place }。
in-database-table = 数据库表 { $table }
exception = 差异
next-step = 下一步
points-difference = 差异积分
expected = 应为
found = 实为
failed-check = 未通过的核对规则
found-since = 首次发现时间
found-by-run = 首次发现的运行
status = 状态
status-new = 新增
status-open = 未消除
status-refused = 已拒绝
status-parked = 已搁置
not-examined = 未核对的范围
not-examined-text = 本次对账核对自{ $from } 以来有分录入账的账户，以及有未消除差异的账户。其他账户的数据如在没有分录的情况下被改动，仅当合计数因此变化时，才由全部账户余额核对发现；其余由下一次全面对账发现。上次全面对账：{ $last }。
all-accounts = 全部账户
requests-not-posted = 未入账的请求
requests-not-posted-note = 自上次对账以来，因不符合账务规则而被拒绝，或多次失败后被搁置的请求。相应积分既未扣除也未入账。原因解决后执行：pointsd requests retry
request = 请求
operation = 操作
operation-recharge = 发放
operation-consume = 使用
operation-refund = 退还
operation-void = 撤销
operation-hold = 预留
operation-release = 解除预留
reference = 编号
reason = 原因
decided = 判定时间

next-repair = pointsd repair plan --user { $account }
next-restore = 从备份恢复该账户的记录，再运行：pointsd run reconciliation --full
next-reconcile = 先修复有差异的账户，再运行：pointsd run reconciliation
next-day-changed = 请勿使用这些营业日的数据。由运维人员将其与分录核对：见 docs/reconciliation.md 中“When a closed day has changed”
next-day-open = 自该营业日起没有数字。由运维人员查找相关分录：见 docs/reconciliation.md 中“When a day cannot be closed”

# 每项核对规则的差异说明。
finding-account_missing = 账户 { $account } 不存在，却有其批次、分录或预留
finding-entry_numbers = 账户 { $account }：缺少第 { $entry } 笔分录
finding-entry_type = 账户 { $account } 的第 { $entry } 笔分录：字段与分录类型不符
finding-entry_time = 账户 { $account } 的第 { $entry } 笔分录：发生时间晚于记录时间
finding-entry_asked = 账户 { $account } 的第 { $entry } 笔分录：退还或撤销与申请的积分不符
finding-entry_chain = 账户 { $account } 的第 { $entry } 笔分录：期初余额比上一笔分录的期末余额{ n-points-higher }（实为 { $found }，应为 { $expected }）
finding-entry_amount = 账户 { $account } 的第 { $entry } 笔分录：积分数与余额变动不符
finding-batch_recharge = 账户 { $account } 的批次 { $batch }：与其发放分录不符
finding-entry_allocations = 账户 { $account } 的第 { $entry } 笔分录：积分数与取自各批次的积分不符
finding-batch_amount = 账户 { $account } 的批次 { $batch }：剩余积分比分录所示{ n-points-remain }（实为 { $found }，应为 { $expected }）
finding-batch_expired = 账户 { $account } 的批次 { $batch }：已过期积分与分录不符
finding-batch_state = 账户 { $account } 的批次 { $batch }：状态、积分或日期相互矛盾
finding-entry_batches = 账户 { $account } 的第 { $entry } 笔分录：不应从批次 { $batch } 取用积分
finding-entry_restored = 账户 { $account } 的第 { $entry } 笔分录：恢复的批次 { $batch } 积分此前并未过期，或没有使用分录取用
finding-refund_consume = 账户 { $account } 的第 { $entry } 笔分录：退还超过其使用，或不属于该笔使用
finding-refund_batch = 账户 { $account } 的第 { $entry } 笔分录：退还的批次 { $batch } 与原取用批次不符
finding-batch_paid = 账户 { $account } 的批次 { $batch }：价款与开立该批次的发放不一致
finding-entry_paid = 账户 { $account } 的第 { $entry } 笔分录：确认的批次价款与其积分不符
finding-entry_price = 账户 { $account } 的第 { $entry } 笔分录：退回的金额与这些积分已确认的金额不符
finding-void_recharge = 账户 { $account } 的第 { $entry } 笔分录：撤销和过期合计超过发放积分，或撤销不属于该笔发放
finding-hold_consume = 账户 { $account }：预留与其使用不符
finding-account_balance = 账户 { $account }：余额比最后一笔分录所示{ n-points-higher }（实为 { $found }，应为 { $expected }）
finding-account_totals = 账户 { $account }：累计数与各类分录之和不符
finding-account_expiry = 账户 { $account }：记录的最近过期时间有误
finding-account_numbers = 账户 { $account }：最后分录号、最后批次号或未完成预留数有误
finding-account_identity = 账户 { $account }：余额比按累计数计算的{ n-points-higher }（实为 { $found }，应为 { $expected }）
finding-account_remaining = 账户 { $account }：各批次剩余积分之和比余额所示{ n-points-remain }（实为 { $found }，应为 { $expected }）
finding-history_changed = 账户 { $account }：已核对过的分录或批次被改动
finding-days_balance = 全部账户：净余额比积分变动表{ n-points-higher }（实为 { $found }，应为 { $expected }）
finding-days_money = 全部账户：递延收入与变动表不符
finding-days_source = 全部账户：按来源统计的积分与积分变动表不符
finding-day_changed = 已结账的营业日与其分录不再一致
finding-day_open = 有营业日无法结账，其后的营业日也未结账：有数字超出可合计的上限
finding-other = 未通过核对规则 { $check }（{ $account }）
finding-found = { $sentence }。实为：{ $found }
finding-differs = { $sentence }。差异：{ n-points-higher }

# 差异中的数值。
value-opened = 转入 { $value }
value-recharged = 发放 { $value }
value-consumed = 使用 { $value }
value-expired = 过期 { $value }
value-refunded = 退还 { $value }
value-voided = 撤销 { $value }
value-adjusted = 更正 { $value }
value-restored = 恢复 { $value }
value-settled = 抵扣欠费 { $value }
value-opening = 期初 { $value }
value-closing = 期末 { $value }
value-source = 来源 { $value }
value-owed = 欠费 { $value }
value-difference = { $found }（应为 { $expected }，{ $direction ->
    [more] 多
   *[fewer] 少
} { $difference }）
value-instead = { $found }（应为 { $expected }）
value-sold = 销售 { $value }
value-used = 使用确认 { $value }
value-returned = 已退款 { $value }
value-corrected = 更正 { $value }
values-separator = ；
values-place = { $day } { $source }
value-and-more = 另有 { $value } 项
value-last_seq = 最后分录号 { $value }
value-last_batch = 最后批次号 { $value }
value-open_holds = 未完成预留数 { $value }
value-remaining = 剩余 { $value }
value-amount = 积分数 { $value }
value-balance_before = 期初余额 { $value }
value-balance_after = 期末余额 { $value }
value-batch = 批次 { $value }
value-entry = 分录 { $value }

# 积分变动表。
roll-forward = 积分变动表
promotional-points = 赠送类积分
promotional-points-note = 未使用的赠送类积分。此类积分没有价款，不计递延收入。
promotional-points-valued = 未使用的赠送类积分，按每积分 { $price } 估值，不计递延收入。
promotional-points-none = 没有未使用的赠送类积分。
deferred-revenue-of-day = { $day }递延收入变动表
deferred-revenue-note = 客户为积分支付的款项，在积分使用、过期或退款前列为递延收入。期初 + 转入 + 销售 + 已确认及已退金额 + 更正 = 期末。
roll-forward-of-day = { $day }积分变动表
roll-forward-note = 按分录的入账日期统计。抵扣欠费：发放或退还时直接抵偿该账户欠费的积分，欠费随之等额减少。
roll-forward-brought-in = 转入：账户从其他系统带来的积分和欠费。
roll-forward-refunded = 退还：已使用后退回的积分。
roll-forward-voided = 撤销：已发放后收回的积分，例如拒付时。
roll-forward-restored = 恢复：到期前的使用在到期后才入账，为此恢复的已过期积分。
days-together = { $days } 天合计
roll-forward-of-days = 以上 { $days } 天积分变动表（按来源）
roll-forward-of-month = { $month }积分变动表（全月）
business-days = 自上次对账以来的营业日
business-day = 营业日
no-business-day-then = 本报告原定时间之前没有已结账的营业日。
day-made-up = { $day }（{ $made_up } 补做）
roll-forward-in-words = { $day }：{ $figures }。
roll-forward-figure = { $label } { $value }
figure-separator = ，
nothing-recorded-yet = 尚无入账记录。首笔分录入账之日为首个营业日。
no-business-day-yet = 尚无已结束的营业日，以下为截至目前已入账的变动。首个营业日将在结束后不久结账。

# 账户余额核对。
tie-out = 账户余额核对
closing-of-day = { $day }期末
recorded-since = 其后入账的变动
expected-net-balance = 应有净余额
net-balance-of-accounts = 全部账户净余额
days-recomputed = 为此次核对，已根据分录重新计算所有已结账的营业日。

# 未使用积分。
unused-by-age = 未使用积分（按账龄）
unused-none = 没有未使用积分。
unused-by-age-note = 自发放或退还之日起的天数。
unused-by-expiry = 未使用积分（按到期时间）
unused-by-expiry-note = 距到期的天数。已到期的积分将在下一次每晚过期处理时过期，或在其账户下次交易时过期。
time-to-expiry = 距到期

# 核对规则及其要求。
checks-performed = 已执行的核对
check = 核对规则
requirement = 要求
rule-account_missing = 每个批次、每笔分录、每笔预留都属于存在的账户。
rule-entry_numbers = 账户的分录按 1、2、3……连续编号，没有缺号。
rule-entry_type = 分录类型有效，各字段与类型相符。
rule-entry_time = 分录的发生时间不晚于记录时间五分钟以上。
rule-entry_asked = 退还或撤销按申请的积分入账，各笔分录连续。
rule-entry_chain = 每笔分录的期初余额等于上一笔分录的期末余额。
rule-entry_amount = 每笔分录按其积分数变动余额，积分数为 1 至 1,000,000,000,000。
rule-batch_recharge = 每个批次与其发放分录的积分、来源和时间一致；批次没有其他来源。
rule-entry_allocations = 分录取自各批次的积分合计与分录相符，且所列批次均存在。
rule-batch_amount = 批次的积分等于剩余积分加上各分录已取用的积分。
rule-batch_expired = 批次的已过期积分等于其过期分录合计减去恢复分录合计。
rule-batch_state = 批次有剩余积分时为开放状态，剩余积分不超过发放积分，到期时间为确定日期且晚于开立时间。
rule-entry_batches = 积分在到期前使用或撤销，到期后全部过期；仅恢复到期前已使用的积分。
rule-entry_restored = 因补记使用而恢复的积分此前确已过期，并由随后的使用分录取用。
rule-refund_consume = 每笔退还对应一笔使用，同一笔使用的退还合计不超过其积分。
rule-refund_batch = 退还的积分回到原来源，到期时间不早于原批次。
rule-batch_paid = 批次的价款与开立该批次的分录一致。
rule-entry_paid = 批次已确认的价款等于已减少积分对应的份额，精确到最小货币单位。
rule-entry_price = 退还转回这些积分已确认的金额，撤销退回其对应的价款。
rule-void_recharge = 每笔撤销对应一笔发放；一笔发放因撤销和过期减少的积分不超过其发放积分。
rule-hold_consume = 已完成的预留对应一笔使用，其发生时间不晚于预留时间；未完成的预留尚无使用分录。
rule-account_balance = 账户余额等于其最后一笔分录的期末余额。
rule-account_totals = 账户的各项累计数等于其各类分录之和。
rule-account_numbers = 账户记录的最后分录号、最后批次号和未完成预留数正确。
rule-account_expiry = 账户记录的最近过期时间正确。
rule-account_identity = 余额 = 转入 + 发放 - 使用 - 过期 + 退还 - 撤销 + 更正。
rule-account_remaining = 账户各批次剩余积分之和等于其余额；欠费账户为零。
rule-history_changed = 已核对过的分录和批次没有改动。
rule-days_balance = 各营业日的积分变动累计等于全部账户净余额。
rule-days_money = 按币种和来源，递延收入变动累计等于未使用批次尚未确认的价款。
rule-days_source = 按来源，各营业日的积分变动累计等于批次剩余积分及欠费。
rule-day_changed = 已结账的营业日不再变动。
rule-day_open = 已结束的营业日均可结账。

## 相近数字之间的调节

moved-since = 其后{ $movement }
bridge-closing = 期末至当前未使用积分与欠费
bridge-closing-note = 末行为批次中的剩余积分与账户欠费。未使用积分减欠费即净余额。
bridge-found = 当前未使用积分与欠费
bridge-net = 净余额
bridge-arrears = 欠费与净余额
bridge-arrears-note = 按截至本报告时点入账的分录计算。
bridge-less-arrears = 减：欠费积分（应收）
bridge-expiry = 本报告与{ $day }营业日的调节
bridge-expired = 本报告过期积分
bridge-before-day = 减：{ $day }之前入账
bridge-after-day = 减：{ $day }之后入账
bridge-before-report = 加：{ $day }本报告起点之前入账
bridge-of-day = { $day }营业日过期积分

## 月末与其他期间

month_end-title = 月末报告
period-title = 期间报告
period-days = { $from }至{ $to }
period-headline = { $period }：发放 { $issued }，使用 { $used }，过期 { $expired }；期末净余额 { n-points }
period-headline-none = { $period }：没有已结账的营业日，暂无数字
period-tone-rule = 标记规则：已关账月份的合计数有变动时为“需关注”；本期有营业日尚未结账时为“提示”。
period-nothing = 本期没有积分变动，也没有积分余额。
period-closed-to = 本期有营业日尚未结账，数字截至 { $day }。下一步：运行 `pointsd run reconciliation`，为已结束的营业日结账，并查明不能结账的原因。
period-changed = { $month }已关账，但其后合计数有变动：{ $totals }。下一步：运行 `pointsd period list` 查看；查明原因后，重新打开该月并再次关账。
period-changed-total = { $source }关账时 { $kept }，现为 { $now }
period-changed-figure = { $source }“{ $figure }”关账时为 { $kept }，现为 { $now }
period-changed-open = { $source }关账时 { $kept }，其最后营业日现未结账
period-not-closed = 本期没有已结账的营业日。下一步：运行 `pointsd run reconciliation`，为已结束的营业日结账，并查明不能结账的原因。
last-closed-month = 最近关账月份
period-closed-at = 该月关账时间
period-first-day = 首个营业日
period-last-day = 最后营业日
period-closing = 期末净余额
period-comparison = 与上期比较
period-comparison-none = 上期尚未结账，无法比较。
period-comparison-note = 上期为{ $before }。所有来源与欠费合计。
period-this = 本期
period-before = 上期
period-change = 变动
period-late = 补记分录
period-late-note = 在本期入账、但发生在本期之前的分录，按发生月份列示，已计入本期变动表。
period-late-none = 没有补记分录。
month = 月份
movement = 变动类型
entries = 分录数
period-late-entries = 补记分录明细
period-late-cut = 工作簿列出前 { $shown } 笔，共 { $all } 笔，过期分录排在最后。完整清单可用 `pointsd export entries --recorded-from { $from } --recorded-to { $to } --at-to { $from }` 导出。
period-effective = 发生时间
period-due = 本期到期、期后过期
period-due-note = 期末时已到期、账上仍未过期的积分，及其后的去向。到期前发生的使用可能在期末之后入账。
period-due-none = 到期积分均已在账上过期。
period-due-held = 期末账面
period-due-expired = 期后过期
period-due-used = 期后使用
period-due-other = 期后撤销或更正
period-single = 更正、退还与撤销
period-single-none = 没有更正、退还或撤销。
period-recorded = 入账时间
period-by = 经办人
period-in-file = 报告文件夹中的 { $file }
period-in-export = `pointsd export entries --type refund --recorded-from { $from } --recorded-to { $to }` 的输出，void 与 adjust 类型同样各导出一次
period-breakage = 过期率（按发放月份）
period-breakage-note = 期末之前发放或退还的全部积分，按生效月份列示，截至本报告时点的去向。退还的积分在原月份计为使用，并在退还月份计为退还。使用包括抵扣欠费和更正。各百分比均以发放积分（含退还）为基数。
period-breakage-none = 没有发放过积分。
period-issued-in = 发放月份
period-open = 未使用
used-percent = 使用占比
voided-percent = 撤销占比
expired-percent = 过期占比
open-percent = 未使用占比

## 邮件与页面

tone-good = 正常
tone-attention = 提示
tone-bad = 需关注
subject-good = { $report ->
    [reconciliation] 【{ tone-good }】{ $headline }
   *[other] 【{ tone-good }】{ $headline }
}
subject-attention = 【{ tone-attention }】{ $headline }
subject-bad = 【{ tone-bad }】{ $headline }
named-value = { $name }：{ $value }
footer-as-of = 数据截至{ $as_of }。所有时间均为 { $zone } 时间。
footer-made-by = 由 pointsd 第 { $run } 次运行生成，所属时点为{ $slot }。
file-first-rows = -前{ $rows }行
attachment-cut = { $file } 仅含 { $all } 行中的前 { $shown } 行。
attachment-whole = { $file } 含“{ $table }”的全部 { $all } 行。
report-link = 在状态页查看本报告：{ $url }
report-files = 本报告的文件位于主机 { $host } 的文件夹 { $folder }。如其中有包含全部行的文件，表格上方的说明会注明。
not-attached = 附件合计上限为 { $limit } MB，以下文件未随邮件附上：{ $files }。本报告的全部文件位于主机 { $host } 的文件夹 { $folder }。

# 工作簿中核对合计的工作表。
cross-foot = 勾稽核对
cross-foot-parts = 各项合计
cross-foot-shown = 列示数
cross-foot-difference = 差额
cross-foot-result = 结果
cross-foot-ok = 相符
cross-foot-differs = 不符
cross-foot-rows = { $table }：每行各项之和等于“{ $column }”
cross-foot-lines = { $table }“{ $column }”：各行之和等于末行
cross-foot-same = { $table }“{ $column }”等于{ $other }“{ $title }”

# 工作表与附件的名称。
table-findings = 未消除的差异
table-resolved = 已消除的差异
table-requests-not-posted = 未入账的请求
table-promotional-points = 赠送类积分
table-deferred-revenue = 递延收入
table-roll-forward = 变动表
table-business-days = 营业日
table-tie-out = 余额核对
table-outstanding-by-age = 未使用积分-账龄
table-outstanding-by-expiry = 未使用积分-到期时间
table-rules = 核对规则
table-ages = 欠费账龄
table-unexplained = 未调节差额
table-new = 新增欠费账户
table-cleared = 已结清账户
table-owing = 全部欠费账户
table-expired = 过期积分
table-without-account = 无账户的批次
table-outstanding = 未使用积分-来源
table-weeks = 每周到期
table-forecast = 预测与实际
table-comparison = 比较
table-recorded-late = 补记
table-late-entries = 补记明细
table-due-not-booked = 期后过期
table-single-entries = 逐笔
table-breakage = 过期率
table-bridge = 调节
table-net-balance = 净余额

## Plan of an adoption

adopt-title = 迁入方案
adopt-headline = { n-accounts }；积分：{ $points }，欠费：{ $debts }
adopt-headline-problems = ；须先作出决定
adopt-tone-rule = 标记规则：方案有一部分会被账本拒绝时为“需关注”；原有数据表有问题时为“提示”。
adopt-read-from = 读取自
adopt-read-at = 读取时间
adopt-plan = 方案
adopt-before = 迁入前：原有数据表
adopt-after = 迁入后：账本的期初
adopt-bridge = 从原有余额到新余额
adopt-bridge-note = 积分减去欠费。
adopt-classes = 问题及处理方式
adopt-classes-none = 没有问题：余额、批次与记录一致。
adopt-examples = 示例：每类问题中积分最多的账户
adopt-problems = 须先决定的事项
adopt-sign = 控制总数
adopt-sign-note = 核对人：____________________   日期：____________
adopt-what = 项目
adopt-count = 数量
adopt-rows = 次数
adopt-becomes = 处理方式
adopt-unreleased = 未确认金额
adopt-accounts-with-points = 有积分的账户
adopt-accounts-in-debt = 有欠费的账户
adopt-accounts-all = 全部账户
adopt-batches-with-points = 有积分的批次
adopt-transactions = 交易记录
adopt-points-of = 积分：{ $source }
adopt-debts = 欠费
adopt-forgiven = 退回：重复收取的欠费
adopt-balances-before = 原有余额
adopt-by-left-out = 不迁入的账户
adopt-by-batches = 以批次代替余额
adopt-by-expired = 因已过期而不迁入的积分
adopt-by-orphans = 没有账户的批次的积分
adopt-by-forgiven = 退回重复收取的欠费
adopt-balances-after = 新余额
adopt-user = 原用户
adopt-class-balance_above_batches = 余额多于批次剩余
adopt-class-batches_above_balance = 批次剩余多于余额
adopt-class-points_beside_debt = 有欠费，但批次仍有积分
adopt-class-debt_charged_twice = 欠费已由积分付清，积分过期时又收取一次
adopt-class-points_expired = 已过期但仍在的积分
adopt-class-posted_twice = 同一订单或任务记账多次
adopt-class-history_broken = 交易记录与上一条不连续
adopt-class-balance_changed_by_hand = 余额与最后一条交易记录不符
adopt-class-totals_differ = 累计总数与交易记录之和不符
adopt-class-debt_without_date = 有欠费，但没有记录说明开始时间
adopt-class-batches_without_account = 批次有积分，但账户已不在
adopt-class-history_without_account = 有交易记录，但账户已不在
adopt-class-account_in_use = 账本中已有分录的账户
adopt-class-account_unreadable = 用户或余额无法读取的账户行
adopt-class-batches_left_out = 不迁入的账户的批次积分
adopt-class-account_twice = 同一用户有多个账户
adopt-class-batch_unreadable = 用户、积分或到期时间无法读取的批次行
adopt-class-batch_id_twice = 同一账户有编号相同的批次
adopt-class-price_unreadable = 价格无法读取或没有币种的批次
adopt-class-transaction_of_other_type = 充值、使用、过期以外的交易记录
adopt-class-transaction_unreadable = 用户、积分或时间无法读取的交易行
adopt-becomes-batch-added = 余额不变：差额成为一个批次，来源为 { $source }。
adopt-becomes-batches-kept = 批次不变：余额改为批次剩余。
adopt-becomes-batches-cut = 余额不变：批次相应减少，先减最早到期的。
adopt-becomes-debt-kept = 欠费不变；积分不迁入。
adopt-becomes-debt-dropped = 积分不变；欠费不迁入。
adopt-becomes-twice-kept = 不作处理。
adopt-becomes-twice-forgiven = 以来源 { $source } 的充值退回。
adopt-becomes-expired-kept = 积分保留至 { $until }。
adopt-becomes-expired-left = 积分不迁入。
adopt-becomes-posted-twice = 不作处理，余额不变。今后同一键不再记账。
adopt-becomes-balance-kept = 不作处理，余额不变。
adopt-becomes-totals-kept = 显示账户的累计总数。
adopt-becomes-dated = 欠费从读取时间开始计算。
adopt-becomes-orphans-left = 积分不迁入。
adopt-becomes-orphans-kept = 批次成为一个账户。
adopt-becomes-history-kept = 交易记录保留，用于对账单。
adopt-becomes-left-out = 这些行不迁入。
adopt-becomes-in-use = 已有其他分录的账户，账本拒绝其期初；`pointsd adopt apply` 会逐一列出。
adopt-becomes-account-left-out = 这些账户不迁入。如需迁入，请在 accounts.table 或 accounts.where 中使每个用户只有一行，再重新制定方案。
adopt-becomes-numbered = 全部迁入；其余批次在编号后加序号。
adopt-becomes-not-known = 其键不会成为已知；有用户和时间的行列入对账单。
adopt-becomes-unpriced = 积分不变，不带价格。
adopt-becomes-history-alone = 交易记录保留，用于对账单；其订单和任务再次提交时会重新记账。
adopt-comparison-title = 与原服务核对
adopt-comparison-tone-rule = 标记规则：有余额不同时为“提示”。
adopt-equal = 全部余额一致（{ n-accounts }）
adopt-different = { n-accounts }余额不同
adopt-compared = 已核对账户
adopt-differing = 余额不同的账户
adopt-sums = 从原有余额到账本余额
adopt-sums-note = 读取数据表以来，双方都有统计的部分。方案中的决定不算作差异。
adopt-balances-there = 原有余额
adopt-by-decisions = 方案中的决定
adopt-by-recharges = 仅一方有的充值
adopt-by-uses = 仅一方有的使用
adopt-by-expiry = 仅一方有的过期
adopt-by-other = 原因不明，例如直接改动余额
adopt-differing-accounts = 差异最大的账户
adopt-there = 原有
adopt-here = 账本
adopt-decisions = 决定
adopt-recharges = 充值
adopt-uses = 使用
adopt-expiry = 过期
adopt-other = 不明
table-adopt-sums = 合计
table-adopt-differing = 差异
table-adopt-before = 迁入前
table-adopt-after = 迁入后
table-adopt-bridge = 新旧余额
table-adopt-classes = 问题
table-adopt-examples = 示例
