package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// dice draws values.
type dice struct{ *rand.Rand }

func (d dice) chance(share float64) bool { return d.Float64() < share }

func (d dice) between(low, high int) int { return low + d.IntN(high-low+1) }

func pick[T any](d dice, from []T) T { return from[d.IntN(len(from))] }

// family says what a scenario is about, as chances between 0 and 1.
type family struct {
	name                                string
	odd, errors, updates, raw, extremes float64
}

var families = []family{
	{name: "closed-loop", odd: 0.1},
	{name: "odd-spec", odd: 0.8, updates: 0.02},
	{name: "errors", odd: 0.2, errors: 0.3},
	{name: "updates", odd: 0.4, updates: 0.2, errors: 0.05},
	{name: "raw", odd: 0.4, raw: 1},
	{name: "extreme", odd: 0.6, raw: 0.7, extremes: 0.3, updates: 0.05},
}

// generate draws one scenario and records it.
func generate(t *testing.T, seed uint64, index int) *Scenario {
	family := families[index%len(families)]
	d := dice{rand.New(rand.NewPCG(seed, uint64(index)))}
	scenario := &Scenario{
		Name:             fmt.Sprintf("%s-%d-%d", family.name, seed, index),
		Family:           family.name,
		KnativeVersion:   "v0.51.0",
		DeciderSpec:      d.spec(family),
		InitialReadyPods: pick(d, []int{0, 0, 1, 1, 2, 3, 10, 50}),
	}
	if d.chance(0.1) {
		scenario.InitialReadyError = pick(d, []string{"NotFound", "boom"})
	}
	tick := pick(d, []float64{2, 2, 2, 1, 0.5, 0.25, 3, 10})
	at := 0.0
	for range d.between(30, 120) {
		scenario.Steps = append(scenario.Steps, Step{T: at})
		at += tick
		if d.chance(0.1) {
			at += float64(d.between(0, 400)) / 4
		}
	}
	load := 10 * d.Float64()
	spec := scenario.DeciderSpec
	record(t, scenario, func(step *Step, desired int32) {
		if d.chance(family.updates) {
			spec = d.spec(family)
			updated := spec
			step.DeciderSpec = &updated
		}
		step.ReadyPods = d.pods(family, desired)
		if d.chance(family.errors) {
			step.ReadyError = pick(d, []string{"NotFound", "NotFound", "boom"})
		}
		if d.chance(family.errors) {
			step.MetricError = pick(d, []string{"NoData", "boom"})
		}
		load = d.walk(load)
		step.StableValue = d.average(family, load*math.Abs(spec.TargetValue))
		step.PanicValue = step.StableValue
		if d.chance(0.7) {
			step.PanicValue = d.average(family, step.StableValue*2*d.Float64())
		}
	})
	return scenario
}

func (d dice) spec(f family) Spec {
	spec := Spec{
		MaxScaleUpRate: 1000, MaxScaleDownRate: 2, ScalingMetric: pick(d, []string{"concurrency", "rps"}),
		TargetValue: pick(d, []float64{0.7, 1, 5, 70, 100, 140}), TargetBurstCapacity: pick(d, []float64{0, -1, 10, 70, 211}),
		ActivatorCapacity: 100, PanicThreshold: 2, StableWindowSeconds: pick(d, []float64{6, 30, 60, 120}),
		ScaleDownDelaySeconds: pick(d, []float64{0, 0, 6, 30, 60}), InitialScale: 1, Reachable: d.chance(0.9),
		ActivationScale: pick(d, []int32{0, 0, 0, 2, 5}),
	}
	spec.TotalValue = spec.TargetValue / 0.7
	odd := func() bool { return d.chance(f.odd) }
	if odd() {
		spec.MaxScaleUpRate = pick(d, []float64{1.01, 1.1, 1.5, 2, 3, 10})
	}
	if odd() {
		spec.MaxScaleDownRate = pick(d, []float64{1.01, 1.1, 1.5, 2, 10, 1000})
	}
	if odd() {
		spec.TargetValue = pick(d, []float64{0.01, 1.0 / 3, 0.1, 7.77, 1e6, 1e-6, 0.7000000000000001})
	}
	if odd() {
		spec.PanicThreshold = pick(d, []float64{1.1, 1.5, 10, 2.000001, 1})
	}
	if odd() {
		spec.StableWindowSeconds = pick(d, []float64{6, 7, 7.5, 600, 3600, 61.5})
	}
	if odd() {
		spec.ScaleDownDelaySeconds = pick(d, []float64{1, 2, 3, 3.5, 5, 7, 600, 3600})
	}
	if odd() {
		spec.TotalValue = pick(d, []float64{0, 0.5, 1, 1e9})
	}
	if odd() {
		spec.TargetBurstCapacity = pick(d, []float64{-1, -0.5, 0.5, 1e9, 1, 1e12, -7})
	}
	if odd() {
		spec.ActivationScale = pick(d, []int32{1, 2, 3, 10, 100})
	}
	if odd() {
		spec.Reachable = d.chance(0.5)
	}
	if odd() {
		spec.ScalingMetric = pick(d, []string{"concurrency", "rps", "cpu", "custom"})
	}
	if d.chance(f.extremes) {
		switch d.between(0, 5) {
		case 0:
			spec.TargetValue = pick(d, []float64{0, 1e-300, 1e300, -1})
		case 1:
			spec.MaxScaleUpRate = pick(d, []float64{0, 0.5, 1e12, -1})
		case 2:
			spec.MaxScaleDownRate = pick(d, []float64{0, 0.5, 1e-9, -2})
		case 3:
			spec.PanicThreshold = pick(d, []float64{0, -1, 1e300})
		case 4:
			spec.ActivationScale = pick(d, []int32{-1, math.MaxInt32, math.MinInt32})
		case 5:
			spec.TotalValue = pick(d, []float64{-1, 1e300, 1e10})
		}
	}
	return spec
}

// pods are mostly those that were wanted.
func (d dice) pods(f family, desired int32) int {
	if d.chance(f.extremes) {
		return pick(d, []int{0, 1, 1 << 20, math.MaxInt32, math.MaxInt32 - 1})
	}
	if d.chance(f.raw) {
		return d.between(0, 60)
	}
	if d.chance(0.2) {
		desired += int32(d.between(-2, 2))
	}
	return int(max(0, min(desired, 1000)))
}

func (d dice) walk(load float64) float64 {
	switch d.between(0, 19) {
	case 0:
		return 0
	case 1, 2:
		return float64(d.between(0, 60)) / 2
	}
	return load * (0.85 + 0.3*d.Float64())
}

// average is rounded as the real windows round, or not.
func (d dice) average(f family, wish float64) float64 {
	if d.chance(f.extremes) {
		return pick(d, []float64{0, -1, 1e-9, 1e9, 1e12, 1e300, -1e12, 2147483647, 2147483648, 4294967296})
	}
	if d.chance(0.8) {
		return math.Round(wish*1e6) / 1e6
	}
	return wish
}
