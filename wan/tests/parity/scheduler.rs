//! The scheduler's case: tables, step lists, adding noise and taking it away.

use krea_wan::scheduler::Scheduler;
use serde::Deserialize;
use tch::{Kind, Tensor};

use crate::case::Case;

#[derive(Deserialize)]
struct Schedules {
    schedules: Vec<Schedule>,
}

#[derive(Deserialize)]
struct Schedule {
    shift: f64,
    strength: f64,
    steps: usize,
    timesteps: Vec<f64>,
}

pub(crate) fn scheduler(case: &mut Case) {
    for shift in case.config::<Vec<f64>>("/shifts") {
        let scheduler = Scheduler::new(shift).unwrap();
        assert_eq!(scheduler.timesteps().len(), case.config::<usize>("/num_train_timesteps"));
        case.check(&format!("out.sigmas.shift{shift}"), &Tensor::from_slice(scheduler.sigmas()));
        case.check(&format!("out.timesteps.shift{shift}"), &Tensor::from_slice(scheduler.timesteps()));
    }
    let scheduler = Scheduler::new(case.config("/add_noise_shift")).unwrap();
    let t: Vec<f64> = Vec::try_from(case.tensor("in.t").to_kind(Kind::Double)).unwrap();
    let (clean, noise, flow) = (case.tensor("in.x0"), case.tensor("in.noise"), case.tensor("in.flow"));
    case.check("out.add_noise", &scheduler.add_noise(&clean, &noise, &t).unwrap());
    case.check("out.x0_pred", &scheduler.clean(&noise, &flow, &t).unwrap());
    let entries: Vec<i64> = t.iter().map(|&t| scheduler.entry(t) as i64).collect();
    case.check("out.timestep_id", &Tensor::from_slice(&entries));

    let text = std::fs::read_to_string(case.beside(&case.config::<String>("/json"))).unwrap();
    let lists: Schedules = serde_json::from_str(&text).unwrap();
    assert!(!lists.schedules.is_empty());
    for list in lists.schedules {
        let made = Scheduler::new(list.shift).unwrap().steps(list.steps, list.strength).unwrap();
        assert_eq!(made.len(), list.timesteps.len());
        for (a, b) in made.iter().zip(&list.timesteps) {
            let allowed = case.tolerance().atol + case.tolerance().rtol * b.abs();
            assert!(
                (a - b).abs() <= allowed,
                "shift {} strength {} steps {}: {made:?} for {:?}",
                list.shift,
                list.strength,
                list.steps,
                list.timesteps
            );
        }
    }
}
