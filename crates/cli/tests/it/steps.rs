//! Fence, salvage, restore and adopt as single steps: what the step contract promises, on a real
//! cluster and with the program's own commands.

use std::collections::BTreeMap;
use std::sync::Arc;

use providers::{OwnProgram, Providers, Secrets};
use recovery::effect::{Effects, Found, StepContext};
use recovery::plan::{Parameters, Plan};
use recovery::testing::conformance;
use testbed::binary;
use zeroize::Zeroizing;

use crate::shop::Shop;
use crate::site::mode;

#[derive(Debug)]
struct None;

impl Secrets for None {
    fn resolve(&self, reference: &str) -> Result<Zeroizing<String>, String> {
        Err(format!("there is no {reference}"))
    }
}

pub(crate) struct Bench<'s> {
    shop: &'s Shop,
    plan: Plan,
    pub(crate) providers: Providers,
    /// What steps before have found out.
    pub(crate) facts: Parameters,
}

impl<'s> Bench<'s> {
    fn of(shop: &'s Shop) -> Self {
        Self::planned(shop, "plan shop --latest")
    }

    /// The steps of another plan.
    pub(crate) fn planned(shop: &'s Shop, words: &str) -> Self {
        let own = OwnProgram { program: binary("rollforward"), config: shop.site.config() };
        let document = shop.site.run(words).done();
        let plan = Plan::from_value(&document["plan"]).unwrap();
        Self {
            shop,
            plan,
            facts: Parameters::new(),
            providers: Providers::new(own, Arc::new(None), BTreeMap::new(), BTreeMap::new())
                .unwrap(),
        }
    }

    pub(crate) fn context(&self, id: &str) -> StepContext {
        let step = self.plan.steps.iter().find(|step| step.id.as_str() == id).unwrap().clone();
        StepContext {
            run: "shop-1126-test".into(),
            parameters: step.parameters.clone(),
            key: format!("shop-1126-test.{id}.1"),
            step,
            facts: self.facts.clone(),
            originals: Parameters::new(),
        }
    }

    pub(crate) async fn undoable(&self, id: &str) {
        let mut context = self.context(id);
        let effect = self.providers.of(&context.step).unwrap();
        let outcome = conformance::undoable(effect, &mut context).await;
        outcome.unwrap_or_else(|why| panic!("{id}: {why}"));
    }

    pub(crate) async fn done(&self, id: &str) -> Parameters {
        let context = self.context(id);
        let effect = self.providers.of(&context.step).unwrap();
        effect.precheck(&context).await.unwrap();
        for time in ["once", "twice"] {
            let acted = effect.act(&context).await;
            acted.unwrap_or_else(|failure| panic!("{id}, {time}: {}", failure.message));
            assert_eq!(effect.probe(&context).await, Found::Done, "{id}, {time}");
        }
        effect.verify(&context).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_fenced_restored_beside_and_adopted_step_by_step() {
    let shop = Shop::open(16);
    let bench = Bench::of(&shop);
    shop.run_script("stop");
    let hba = shop.site.cluster.data_dir().join("pg_hba.conf");
    let (before, text) = (mode(&hba), std::fs::read_to_string(&hba).unwrap());
    bench.undoable("secure.fence.shop").await;
    assert_eq!(mode(&hba), before, "its client authentication has its mode");
    assert_eq!(std::fs::read_to_string(&hba).unwrap(), text);
    assert_eq!(shop.site.cluster.psql("SELECT 1"), "1");
    for id in ["secure.salvage.shop", "secure.copy.shop", "secure.target"] {
        let context = bench.context(id);
        let effect = bench.providers.of(&context.step).unwrap();
        let outcome = conformance::looking(effect, &context).await;
        outcome.unwrap_or_else(|why| panic!("{id}: {why}"));
    }
    bench.undoable("restore.cluster.shop").await;
    assert_eq!(bench.shop.made(), Vec::<String>::new(), "nothing is left of it");
    bench.done("secure.fence.shop").await;
    let made = bench.done("restore.cluster.shop").await;
    assert!(made.contains_key("port") && made.contains_key("newest_commit"), "{made:?}");
    bench.done("protect.adopt.shop").await;
    let backup = bench.done("protect.backup.shop").await;
    assert!(!backup["new_backup"].is_empty());
    shop.site.verify_clean();
}
