//! The longest-prefix table, against a list that is searched from end to end.

use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use wgengine_core::plan::Prefix;
use wgengine_core::policy::allowed::Allowed;

fn prefix(text: &str) -> Prefix {
    let (addr, len) = text.split_once('/').expect("a prefix");
    Prefix::new(addr.parse().expect("an address"), len.parse().expect("a length")).expect("a prefix")
}

fn addr(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn table(rows: &[(&str, u32)]) -> Allowed<u32> {
    let mut table = Allowed::new();
    for (text, owner) in rows {
        table.insert(prefix(text), *owner);
    }
    table
}

fn of(table: &Allowed<u32>, owner: u32) -> Vec<Prefix> {
    table.of(owner).collect()
}

#[test]
fn the_longest_prefix_wins() {
    let table = table(&[
        ("10.1.0.0/16", 3),
        ("10.1.2.0/24", 1),
        ("10.1.2.130/32", 2),
        ("10.1.2.128/25", 4),
        ("172.16.0.0/12", 5),
        ("203.0.113.96/27", 6),
        ("203.0.113.97/32", 7),
        ("2001:db8::/32", 1),
        ("2001:db8:0:1::/64", 2),
        ("2001:db8:0:1::5/128", 3),
        ("fd00::/8", 4),
        ("fd00:0:0:8000::/49", 5),
        ("::ffff:10.1.2.3/128", 8),
    ]);
    let expected = [
        ("10.1.0.1", Some(3)),
        ("10.1.2.1", Some(1)),
        ("10.1.2.127", Some(1)),
        ("10.1.2.128", Some(4)),
        ("10.1.2.130", Some(2)),
        ("10.1.2.131", Some(4)),
        ("10.2.0.0", None),
        ("0.0.0.0", None),
        ("255.255.255.255", None),
        ("172.15.255.255", None),
        ("172.16.0.0", Some(5)),
        ("172.31.255.255", Some(5)),
        ("172.32.0.0", None),
        ("203.0.113.95", None),
        ("203.0.113.97", Some(7)),
        ("203.0.113.127", Some(6)),
        ("203.0.113.128", None),
        ("2001:db8:ffff::", Some(1)),
        ("2001:db8:0:1:ffff::", Some(2)),
        ("2001:db8:0:1::5", Some(3)),
        ("2001:db9::", None),
        ("::", None),
        ("fd00:0:0:7fff::", Some(4)),
        ("fd00:0:0:8000::", Some(5)),
        ("fd00:0:0:ffff:ffff:ffff:ffff:ffff", Some(5)),
        ("fd00:0:1::", Some(4)),
        ("fe00::", None),
        // A mapped address is IPv6: the families are apart.
        ("::ffff:10.1.2.3", Some(8)),
        ("::ffff:10.1.2.4", None),
    ];
    for (text, owner) in expected {
        assert_eq!(table.lookup(addr(text)), owner, "{text}");
    }
    assert_eq!(table.len(), 13);
}

#[test]
fn a_default_route_holds_its_own_family_only() {
    let mut table = table(&[("0.0.0.0/0", 1)]);
    assert_eq!((table.lookup(addr("255.1.2.3")), table.lookup(addr("::1"))), (Some(1), None));
    table.insert(prefix("::/0"), 2);
    table.insert(prefix("128.0.0.0/1"), 3);
    assert_eq!(table.lookup(addr("127.255.255.255")), Some(1));
    assert_eq!(table.lookup(addr("128.0.0.0")), Some(3));
    assert_eq!(table.lookup(addr("ffff::")), Some(2));
}

#[test]
fn a_prefix_has_one_owner() {
    let mut table = table(&[("10.0.0.0/8", 1), ("10.0.0.0/9", 1), ("fd00::/8", 1)]);
    assert_eq!(table.insert(prefix("10.0.0.0/8"), 2), Some(1));
    assert_eq!(table.insert(prefix("10.0.0.0/8"), 2), None, "it has it already");
    assert_eq!(table.insert(prefix("fd00::/8"), 2), Some(1));
    assert_eq!(of(&table, 1), [prefix("10.0.0.0/9")]);
    assert_eq!(of(&table, 2), [prefix("10.0.0.0/8"), prefix("fd00::/8")]);
    assert!(!table.remove(prefix("10.0.0.0/8"), 1), "not its own");
    assert!(!table.remove(prefix("10.0.0.0/10"), 1), "nobody's");
    assert_eq!((table.len(), table.lookup(addr("10.200.0.0"))), (3, Some(2)));
    assert!(table.remove(prefix("10.0.0.0/8"), 2));
    assert!(!table.remove(prefix("10.0.0.0/8"), 2), "gone already");
    assert_eq!((table.len(), table.lookup(addr("10.200.0.0"))), (2, None));
    table.remove_owner(2);
    table.remove_owner(9);
    assert_eq!((table.len(), of(&table, 2)), (1, vec![]));
    table.remove_owner(1);
    assert!(table.is_empty());
}

#[test]
fn prefixes_are_told_in_the_order_given() {
    let mut table = table(&[("10.0.0.9/32", 1), ("fd00::1/128", 1), ("10.0.0.1/32", 1), ("10.0.0.5/32", 2)]);
    assert_eq!(of(&table, 1), ["10.0.0.9/32", "fd00::1/128", "10.0.0.1/32"].map(prefix));
    table.insert(prefix("10.0.0.9/32"), 1); // given again: the newest
    assert_eq!(of(&table, 1), ["fd00::1/128", "10.0.0.1/32", "10.0.0.9/32"].map(prefix));
    table.remove(prefix("10.0.0.1/32"), 1);
    table.insert(prefix("10.0.0.5/32"), 1);
    assert_eq!(of(&table, 1), ["fd00::1/128", "10.0.0.9/32", "10.0.0.5/32"].map(prefix));
}

#[test]
fn replacing_is_one_step() {
    let mut table = table(&[("10.0.0.1/32", 1), ("10.0.0.2/32", 1), ("10.0.0.3/32", 1), ("10.0.0.4/32", 2)]);
    table.replace(1, ["10.0.0.4/32", "10.0.0.2/32", "10.0.0.9/32", "10.0.0.4/32"].map(prefix));
    assert_eq!(of(&table, 1), ["10.0.0.2/32", "10.0.0.9/32", "10.0.0.4/32"].map(prefix));
    assert_eq!((of(&table, 2), table.len()), (vec![], 3));
    assert_eq!((table.lookup(addr("10.0.0.1")), table.lookup(addr("10.0.0.4"))), (None, Some(1)));
    table.replace(1, [prefix("10.0.0.9/32")]);
    assert_eq!(of(&table, 1), [prefix("10.0.0.9/32")]);
    table.replace(1, []);
    assert!(table.is_empty());
}

/// The table as a list: what is in it, in the order given.
#[derive(Default)]
struct Slow(Vec<(Prefix, u32)>);

impl Slow {
    fn insert(&mut self, prefix: Prefix, owner: u32) -> Option<u32> {
        let before = self.0.iter().position(|row| row.0 == prefix).map(|at| self.0.remove(at).1);
        self.0.push((prefix, owner));
        before.filter(|before| *before != owner)
    }

    fn remove(&mut self, prefix: Prefix, owner: u32) -> bool {
        let before = self.0.len();
        self.0.retain(|row| *row != (prefix, owner));
        self.0.len() < before
    }

    fn replace(&mut self, owner: u32, prefixes: &[Prefix]) {
        self.0.retain(|row| row.1 != owner);
        for prefix in prefixes {
            self.insert(*prefix, owner);
        }
    }

    fn lookup(&self, addr: IpAddr) -> Option<u32> {
        let holds = |prefix: &Prefix| Prefix::new(addr, prefix.len()) == Some(*prefix);
        self.0.iter().filter(|row| holds(&row.0)).max_by_key(|row| row.0.len()).map(|row| row.1)
    }

    fn of(&self, owner: u32) -> Vec<Prefix> {
        self.0.iter().filter(|row| row.1 == owner).map(|row| row.0).collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Prefix, u32),
    Remove(Prefix, u32),
    RemoveOwner(u32),
    Replace(u32, Vec<Prefix>),
}

/// Addresses that are near each other, so that prefixes meet: some bits at the top, some at the bottom.
fn near() -> impl Strategy<Value = IpAddr> {
    (any::<bool>(), 0u8..4, 0u8..4, 0u8..8).prop_map(|(ipv6, top, middle, bottom)| {
        if ipv6 {
            let (top, middle) = (u16::from(top) << 14, u16::from(middle) << 7);
            IpAddr::V6(Ipv6Addr::new(top, 0, 0, middle, 0, 0, 0, u16::from(bottom)))
        } else {
            IpAddr::V4(Ipv4Addr::new(top << 6, middle << 3, 0, bottom))
        }
    })
}

fn any_prefix() -> impl Strategy<Value = Prefix> {
    (near(), any::<prop::sample::Index>()).prop_map(|(addr, len)| {
        let width = if addr.is_ipv6() { 129 } else { 33 };
        Prefix::new(addr, len.index(width) as u8).expect("a length that fits")
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (any_prefix(), 0u32..5).prop_map(|(prefix, owner)| Step::Insert(prefix, owner)),
        6 => (any_prefix(), 0u32..5).prop_map(|(prefix, owner)| Step::Remove(prefix, owner)),
        1 => (0u32..5).prop_map(Step::RemoveOwner),
        1 => (0u32..5, prop::collection::vec(any_prefix(), 0..6)).prop_map(|(owner, all)| Step::Replace(owner, all)),
    ]
}

proptest! {
    #[test]
    fn i2_agrees_with_the_list_until_it_is_empty(
        steps in prop::collection::vec(step(), 1..200),
        addrs in prop::collection::vec(near(), 40),
        order in any::<u64>(),
    ) {
        let (mut table, mut slow) = (Allowed::new(), Slow::default());
        for step in steps {
            match step {
                Step::Insert(prefix, owner) => prop_assert_eq!(table.insert(prefix, owner), slow.insert(prefix, owner)),
                Step::Remove(prefix, owner) => prop_assert_eq!(table.remove(prefix, owner), slow.remove(prefix, owner)),
                Step::RemoveOwner(owner) => {
                    table.remove_owner(owner);
                    slow.replace(owner, &[]);
                }
                Step::Replace(owner, prefixes) => {
                    slow.replace(owner, &prefixes);
                    table.replace(owner, prefixes);
                }
            }
            check(&table, &slow, &addrs)?;
        }
        while !slow.0.is_empty() {
            let (prefix, owner) = slow.0[order as usize % slow.0.len()];
            prop_assert!(slow.remove(prefix, owner) && table.remove(prefix, owner));
            check(&table, &slow, &addrs)?;
        }
        prop_assert!(table.is_empty());
    }
}

fn check(table: &Allowed<u32>, slow: &Slow, addrs: &[IpAddr]) -> Result<(), TestCaseError> {
    prop_assert_eq!(table.len(), slow.0.len());
    for owner in 0..5 {
        prop_assert_eq!(of(table, owner), slow.of(owner), "of owner {}", owner);
    }
    for addr in addrs {
        prop_assert_eq!(table.lookup(*addr), slow.lookup(*addr), "owner of {}", addr);
    }
    Ok(())
}
