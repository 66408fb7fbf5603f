#!/usr/bin/env python3
"""Writes the database of the service that pointsd replaced as SQL, with the faults that such a database has: old_service.py [USERS [SEED]]

The service is replayed in memory, statement by statement: recharges without a lock, debts that expiry charges again, orders and tasks posted
twice, lost updates, balances that support changed by hand, accounts that were deleted."""
import random, uuid, math, sys
from datetime import datetime, timedelta, timezone
UTC=timezone.utc; R=random.Random(int(sys.argv[2]) if len(sys.argv)>2 else 7)
NU=int(sys.argv[1]) if len(sys.argv)>1 else 1000
users=[str(uuid.UUID(int=R.getrandbits(128),version=4)) for _ in range(NU)]
up={}; batches=[]; byuser={}; tx=[]
def acct(u):
    return up.setdefault(u,dict(balance=0,tr=0,tc=0,te=0,created=now))
def recharge(u,n,src,order=None,exp=None,stale=None,desc=None):
    a=acct(u); before=a['balance'] if stale is None else stale
    a['balance']=before+n; a['tr']=a['tr']+n if stale is None else a['tr']
    b=dict(id=len(batches)+1,u=u,amount=n,remaining=n,exp=exp or now+timedelta(days=180),src=src,created=now)
    batches.append(b); byuser.setdefault(u,[]).append(b)
    tx.append((u,'recharge',n,before,a['balance'],src,str(order) if order else None,b['id'],None,desc or f'{src} 充值 {n} 积分',now))
def consume(u,p,st,sid,dur=None):
    a=acct(u); bs=sorted([b for b in byuser.get(u,[]) if b['remaining']>0 and b['exp']>now],key=lambda b:b['exp'])
    left=p
    for b in bs:
        if left<=0: break
        d=min(b['remaining'],left); b['remaining']-=d; left-=d
    before=a['balance']; a['balance']-=p; a['tc']+=p
    tx.append((u,'consume',p,before,a['balance'],st,sid,bs[0]['id'] if bs else None,dur,f'【{st}】',now))
def expire():
    for b in batches:
        if b['exp']<=now and b['remaining']>0 and b['u'] in up:
            r=b['remaining']; a=up[b['u']]; before=a['balance']; a['balance']-=r; a['te']+=r; b['remaining']=0
            tx.append((b['u'],'expire',r,before,a['balance'],b['src'],None,b['id'],None,f'积分批次过期回收 {r} 积分',now))
now=datetime(2025,11,20,tzinfo=UTC); END=datetime(2026,11,28,tzinfo=UTC); day=0; order=task=0
faults=dict(order_twice=0,task_twice=0,lost_update=0)
while now<END:
    base=now; now=base+timedelta(hours=2)
    if not (100<=day<107 or 200<=day<207 or 300<=day<310): expire()
    ev=sorted(R.randint(0,70000) for _ in range(R.randint(NU//20,NU//9)))
    for e in ev:
        now=base+timedelta(hours=3,seconds=e,microseconds=R.randint(0,999999)); u=users[int((NU*0.99)*R.random()**1.5)]
        if R.random()<.30:
            order+=1; n=R.choice([50,100,300,500,1000]); src=R.choices(['wxpay','gift','invite','compensation'],[6,2,1,1])[0]
            exp=None if R.random()<.8 else now+timedelta(days=R.choice([7,30,365])); o=order if src=='wxpay' else None
            recharge(u,n,src,o,exp)
            if o and R.random()<.01: recharge(u,n,src,o,exp); faults['order_twice']+=1
            elif R.random()<.004: # two recharges read the same balance: the second writes over the first
                s=up[u]['balance']-n; order+=1; recharge(u,200,'wxpay',order,None,stale=s); up[u]['tr']+=200-n; faults['lost_update']+=1
        else:
            task+=1; st=R.choice(['script','tts','video']); d=None if st=='script' else R.uniform(1,300)
            p=5 if st=='script' else max(1,math.ceil(d/10)) if st=='tts' else math.ceil(d)*2
            consume(u,p,st,f'task-{task}',d)
            if R.random()<.01: consume(u,p,st,f'task-{task}',d); faults['task_twice']+=1
    now=base+timedelta(days=1); day+=1
for u in list(up)[:5]: up[u]['balance']+=500         # support "gave" points with an UPDATE
gone=R.sample(list(up),3)
for u in gone: del up[u]                              # account deleted, batches and transactions stay
for u in users[-NU//100:]: up.setdefault(u,dict(balance=0,tr=0,tc=0,te=0,created=now))
q=lambda v:'\\N' if v is None else str(v)
with sys.stdout as f:
    f.write('''-- As SQLAlchemy creates the three tables of the service; the data is made up by replaying the statements of the service.
CREATE TABLE user_points (id serial PRIMARY KEY, user_id uuid NOT NULL UNIQUE, balance integer NOT NULL, total_recharged integer NOT NULL,
 total_consumed integer NOT NULL, total_expired integer NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE point_batches (id serial PRIMARY KEY, user_id uuid NOT NULL, amount integer NOT NULL, remaining integer NOT NULL,
 expired_at timestamptz NOT NULL, source varchar(32) NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX ix_point_batches_user_id ON point_batches (user_id); CREATE INDEX ix_point_batches_expired_at ON point_batches (expired_at);
CREATE TABLE point_transactions (id serial PRIMARY KEY, user_id uuid NOT NULL, type varchar(16) NOT NULL, amount integer NOT NULL,
 balance_before integer NOT NULL, balance_after integer NOT NULL, source_type varchar(32) NOT NULL, source_id varchar(64), batch_id integer,
 duration double precision, description varchar(255) NOT NULL DEFAULT '', created_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX ix_point_transactions_user_id ON point_transactions (user_id);
COPY user_points (user_id,balance,total_recharged,total_consumed,total_expired,created_at) FROM stdin;
''')
    for u,a in up.items(): f.write('\t'.join(map(q,(u,a['balance'],a['tr'],a['tc'],a['te'],a['created'])))+'\n')
    f.write('\\.\nCOPY point_batches (id,user_id,amount,remaining,expired_at,source,created_at) FROM stdin;\n')
    for b in batches: f.write('\t'.join(map(q,(b['id'],b['u'],b['amount'],b['remaining'],b['exp'],b['src'],b['created'])))+'\n')
    f.write('\\.\nCOPY point_transactions (user_id,type,amount,balance_before,balance_after,source_type,source_id,batch_id,duration,description,created_at) FROM stdin;\n')
    for t in tx: f.write('\t'.join(map(q,t))+'\n')
    f.write("\\.\nSELECT setval('point_batches_id_seq',(SELECT max(id) FROM point_batches));\n")
print(faults,'orders',order,'tasks',task,'tx',len(tx),file=sys.stderr)
