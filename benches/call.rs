//! One REGISTER and one INVITE call of each stack, both ends in this process: wall time of all the
//! code that a message runs through, kernel included. `register` opens the hop anew each time, as a
//! user who comes; `call` uses a kept hop.

#![allow(missing_docs)]

use std::cell::Cell;
use std::net::Ipv4Addr;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use hopbench::load::SingleUser;
use hopbench::node::{Node, NodeConfig};
use hopbench::sip::Accounts;
use hopbench::transport::{Settings, stacks};
use tokio::task::LocalSet;

const USERS: u32 = 256;

fn bench(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let local = LocalSet::new();
    let settings = Settings::generate(USERS).expect("credentials");
    let accounts = Accounts::new("hopbench.test", "hopbench", USERS);
    for stack in stacks() {
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let config = NodeConfig::answering(stack.name, any, settings.clone(), accounts.clone());
        let (address, client) = local.block_on(&runtime, async {
            let node = Node::listen(&config).await.expect("a free port");
            let address = node.local();
            tokio::task::spawn_local(async move { node.run().await });
            (
                address,
                stack
                    .open(&settings)
                    .expect("generated credentials suffice"),
            )
        });
        let next_user = Cell::new(0);
        let open = || async {
            let user = next_user.get();
            next_user.set((user + 1) % USERS);
            let accounts = accounts.clone();
            SingleUser::open(stack, &*client, address, accounts, user)
                .await
                .expect("the node is there")
        };

        let mut group = criterion.benchmark_group("register");
        group.bench_function(stack.name, |bencher| {
            bencher.iter_custom(|iterations| {
                local.block_on(&runtime, async {
                    let start = std::time::Instant::now();
                    for _ in 0..iterations {
                        let user = open().await;
                        user.register().await.expect("the password is right");
                        user.close();
                    }
                    start.elapsed()
                })
            });
        });
        group.finish();

        let user = local.block_on(&runtime, open());
        local
            .block_on(&runtime, user.register())
            .expect("the password is right");
        let mut group = criterion.benchmark_group("call");
        group.bench_function(stack.name, |bencher| {
            bencher.iter_custom(|iterations| {
                local.block_on(&runtime, async {
                    let start = std::time::Instant::now();
                    for _ in 0..iterations {
                        user.call().await.expect("the node answers");
                    }
                    start.elapsed()
                })
            });
        });
        group.finish();
        user.close();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1_500))
        .sample_size(20);
    targets = bench
}
criterion_main!(benches);
