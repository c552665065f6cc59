package main

import (
	"fmt"
	"math/rand/v2"

	keda "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// dice draws values.
type dice struct{ *rand.Rand }

func (d dice) chance(share float64) bool { return d.Float64() < share }

func (d dice) between(low, high int) int { return low + d.IntN(high-low+1) }

func pick[T any](d dice, from []T) T { return from[d.IntN(len(from))] }

// maybe leaves a field unset now and then.
func maybe(d dice, share float64, from ...int32) *int32 {
	if !d.chance(share) {
		return nil
	}
	value := pick(d, from)
	return &value
}

// generate draws one scenario: two of three are of the executor.
func generate(seed uint64, index int) runnable {
	d := dice{rand.New(rand.NewPCG(seed, uint64(index)))}
	if index%3 == 2 {
		return d.fallbackScenario(fmt.Sprintf("fallback-%d-%d", seed, index))
	}
	return d.executorScenario(fmt.Sprintf("executor-%d-%d", seed, index))
}

func (d dice) executorScenario(name string) *Executor {
	e := &Executor{Name: name, Kind: "executor", KedaVersion: "v2.21.0"}
	e.ScaledObject = ScaledObject{
		MinReplicaCount:       maybe(d, 0.8, 0, 0, 1, 2, 3, 10),
		MaxReplicaCount:       maybe(d, 0.7, 1, 3, 5, 10, 20),
		IdleReplicaCount:      maybe(d, 0.4, 0, 0, 1, 2, 5),
		CooldownPeriod:        maybe(d, 0.7, 0, 1, 29, 30, 31, 60, 120, 300, 600),
		InitialCooldownPeriod: maybe(d, 0.6, 0, 1, 30, 60, 300),
		PollingInterval:       maybe(d, 0.6, 1, 15, 30, 60),
		CreatedAt:             -int64(pick(d, []int{0, 1, 5, 30, 60, 300, 1000})),
		Annotations:           d.annotations(0.2),
	}
	if d.chance(0.4) {
		e.ScaledObject.Fallback = &keda.Fallback{FailureThreshold: 3, Replicas: pick(d, []int32{0, 0, 1, 2, 4})}
	}
	active, failing, broken := 0.1+0.8*d.Float64(), pick(d, []float64{0, 0.1, 0.4}), pick(d, []float64{0, 0, 0.2})
	interval := int64(30)
	if e.ScaledObject.PollingInterval != nil {
		interval = int64(*e.ScaledObject.PollingInterval)
	}
	at, isActive := int64(0), d.chance(0.5)
	for range d.between(20, 80) {
		if d.chance(0.2) {
			isActive = d.chance(active)
		}
		step := ExecutorStep{
			T: at, IsActive: isActive, IsError: d.chance(failing), GetError: d.chance(broken / 2),
			UpdateError: d.chance(broken),
		}
		if d.chance(0.05) {
			step.Annotations = d.annotations(0.7)
			if step.Annotations == nil {
				step.Annotations = map[string]string{}
			}
		}
		e.Steps = append(e.Steps, step)
		// A push in between, or the next poll.
		if d.chance(0.15) && interval > 1 {
			at += int64(d.between(1, int(interval)-1))
		} else {
			at = (at/interval + 1) * interval
		}
	}
	foreign := pick(d, []float64{0.02, 0.2})
	e.follow = func(step *ExecutorStep, replicas int32) {
		step.Replicas = replicas
		if replicas < 0 || d.chance(foreign) {
			step.Replicas = int32(pick(d, []int{0, 0, 1, 1, 2, 3, 4, 5, 10, 25}))
		}
	}
	return e
}

func (d dice) annotations(share float64) map[string]string {
	if !d.chance(share) {
		return nil
	}
	values := []string{"true", "false", "1", "0", "True", "F", "yes", "", "2", "-1", "TRUE", "t"}
	names := []string{"paused", "paused-replicas", "paused-scale-in", "paused-scale-out", "force-activation", "paused-scale-in", "paused-scale-out", "force-activation", "other"}
	annotations := map[string]string{}
	for range d.between(1, 2) {
		annotations["autoscaling.keda.sh/"+pick(d, names)] = pick(d, values)
	}
	return annotations
}

func (d dice) fallbackScenario(name string) *Fallback {
	f := &Fallback{
		Name: name, Kind: "fallback", KedaVersion: "v2.21.0",
		TargetType: pick(d, []autoscalingv2.MetricTargetType{autoscalingv2.AverageValueMetricType, autoscalingv2.ValueMetricType}),
		Target:     pick(d, []string{"1500m", "100", "70", "5", "333m", "0.5", "1k", "2.5", "1", "10", "7.000", "0.7", "1Ki", "1e3", "123456789", "1m", "9.99", "2.3"}),
	}
	if d.chance(0.9) {
		f.Fallback = &keda.Fallback{
			FailureThreshold: pick(d, []int32{0, 1, 2, 3, 5, -1}),
			Replicas:         pick(d, []int32{0, 1, 3, 7, 100, 1 << 30, -1}),
			Behavior: pick(d, []string{
				"", keda.FallbackBehaviorStatic, keda.FallbackBehaviorCurrentReplicas,
				keda.FallbackBehaviorCurrentReplicasIfHigher, keda.FallbackBehaviorCurrentReplicasIfLower,
				keda.FallbackBehaviorScalingModifiers,
			}),
		}
	}
	failing, isError := d.Float64(), false
	for range d.between(20, 60) {
		if d.chance(0.5) {
			isError = d.chance(failing)
		}
		f.Steps = append(f.Steps, FallbackStep{
			Error: isError, Value: int64(d.between(0, 200000)), Replicas: int32(d.between(0, 12)), ReadyPods: d.between(0, 6),
		})
	}
	return f
}
