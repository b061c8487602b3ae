//! What takes a look at every living model: it is computed once after each block, on a thread of
//! its own, so that no question of a client ever does. Whoever asks waits for the survey of the
//! block that it is about.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use soma_protocol::record::{Model, ModelStatus};
use soma_protocol::{Address, StateRead, read};
use tokio::sync::watch;

use crate::chain;
use crate::duties::{Duties, Standing};
use crate::weights::Needed;

/// What all living models are, after a block.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    height: u64,
    /// Those of each owner.
    owned: BTreeMap<Address, Vec<u32>>,
    /// How many are active.
    pub(crate) models_active: u32,
    /// Those that are ready for the running migration.
    pub(crate) ready: Vec<u32>,
}

impl Survey {
    pub(crate) fn of(state: &dyn StateRead, height: u64, living: &[Model]) -> Self {
        let migration = read::migration(state);
        let mut survey = Self { height, ..Self::default() };
        for model in living {
            survey.owned.entry(model.owner).or_default().push(model.id.0);
            survey.models_active += u32::from(model.status == ModelStatus::Active);
            if migration.as_ref().is_some_and(|migration| model.is_ready_for(migration.number)) {
                survey.ready.push(model.id.0);
            }
        }
        survey
    }

    /// The living models of an account.
    pub(crate) fn models_of(&self, owner: &Address) -> Vec<u32> {
        self.owned.get(owner).cloned().unwrap_or_default()
    }
}

/// The validators that are paid for the file of some model, and may be challenged for it.
fn holders(state: &dyn StateRead, living: &[Model]) -> BTreeSet<Address> {
    let rents = living.iter().flat_map(|model| read::rents(state, model.id));
    rents.flat_map(|rent| rent.holders).collect()
}

/// The last survey.
pub(crate) struct Surveys {
    duties: Arc<Duties>,
    last: watch::Sender<Arc<Survey>>,
}

impl Surveys {
    /// Looks at the state as it is now.
    pub(crate) fn begin(duties: Arc<Duties>) -> Self {
        let surveys = Self { duties, last: watch::Sender::default() };
        surveys.look();
        surveys
    }

    fn look(&self) {
        let (survey, needed, standing, holders) = self.duties.chain.read(|state, height| {
            let living: Vec<Model> = read::living_models(state).collect();
            let standing = Standing::of(state, height, &self.duties, &living);
            let survey = Survey::of(state, height, &living);
            (survey, Needed::of(state, &living), standing, holders(state, &living))
        });
        self.duties.admission.pool.set_holders(holders);
        self.duties.weights.list(needed, survey.height);
        self.last.send_replace(Arc::new(survey));
        self.duties.stand(standing);
    }

    /// Looks after each block.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut heights = self.duties.chain.heights();
        while heights.changed().await.is_ok() {
            self.look();
        }
    }

    /// The survey of the block at this height, or of a later one.
    pub(crate) async fn at(&self, height: u64) -> Arc<Survey> {
        chain::first(&mut self.last.subscribe(), |survey| survey.height >= height).await
    }

    /// The survey of the last finalized block.
    pub(crate) async fn now(&self) -> Arc<Survey> {
        self.at(self.duties.chain.read(|_, height| height)).await
    }
}
