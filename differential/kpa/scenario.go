package main

import (
	"errors"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"
	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/serving/pkg/autoscaler/metrics"
	"knative.dev/serving/pkg/autoscaler/scaling"
)

// Scenario is one revision over time: what its autoscaler saw and what it decided.
type Scenario struct {
	Name              string `json:"name"`
	Family            string `json:"family"`
	KnativeVersion    string `json:"knativeVersion"`
	DeciderSpec       Spec   `json:"deciderSpec"`
	InitialReadyPods  int    `json:"initialReadyPods"`
	InitialReadyError string `json:"initialReadyError,omitempty"`
	InitialInPanic    bool   `json:"initialInPanic"`
	Steps             []Step `json:"steps"`
}

// Spec is scaling.DeciderSpec with durations in seconds.
type Spec struct {
	MaxScaleUpRate        float64 `json:"maxScaleUpRate"`
	MaxScaleDownRate      float64 `json:"maxScaleDownRate"`
	ScalingMetric         string  `json:"scalingMetric"`
	TargetValue           float64 `json:"targetValue"`
	TotalValue            float64 `json:"totalValue"`
	TargetBurstCapacity   float64 `json:"targetBurstCapacity"`
	ActivatorCapacity     float64 `json:"activatorCapacity"`
	PanicThreshold        float64 `json:"panicThreshold"`
	StableWindowSeconds   float64 `json:"stableWindowSeconds"`
	ScaleDownDelaySeconds float64 `json:"scaleDownDelaySeconds"`
	InitialScale          int32   `json:"initialScale"`
	Reachable             bool    `json:"reachable"`
	ActivationScale       int32   `json:"activationScale"`
}

// Step is one call of Scale; seconds since the autoscaler was made.
type Step struct {
	T           float64 `json:"t"`
	DeciderSpec *Spec   `json:"deciderSpec,omitempty"`
	ReadyPods   int     `json:"readyPods"`
	ReadyError  string  `json:"readyError,omitempty"`
	StableValue float64 `json:"stableValue"`
	PanicValue  float64 `json:"panicValue"`
	MetricError string  `json:"metricError,omitempty"`
	Expect      Expect  `json:"expect"`
}

// Expect is what the call returned, and the autoscaler's panic afterwards.
type Expect struct {
	ScaleValid          bool  `json:"scaleValid"`
	DesiredPodCount     int32 `json:"desiredPodCount"`
	ExcessBurstCapacity int32 `json:"excessBurstCapacity"`
	InPanic             bool  `json:"inPanic"`
	MaxPanicPods        int32 `json:"maxPanicPods"`
}

func (s Spec) decider() *scaling.DeciderSpec {
	return &scaling.DeciderSpec{
		MaxScaleUpRate:      s.MaxScaleUpRate,
		MaxScaleDownRate:    s.MaxScaleDownRate,
		ScalingMetric:       s.ScalingMetric,
		TargetValue:         s.TargetValue,
		TotalValue:          s.TotalValue,
		TargetBurstCapacity: s.TargetBurstCapacity,
		ActivatorCapacity:   s.ActivatorCapacity,
		PanicThreshold:      s.PanicThreshold,
		StableWindow:        seconds(s.StableWindowSeconds),
		ScaleDownDelay:      seconds(s.ScaleDownDelaySeconds),
		InitialScale:        s.InitialScale,
		Reachable:           s.Reachable,
		ActivationScale:     s.ActivationScale,
	}
}

func specOf(d scaling.DeciderSpec) Spec {
	return Spec{
		MaxScaleUpRate: d.MaxScaleUpRate, MaxScaleDownRate: d.MaxScaleDownRate, ScalingMetric: d.ScalingMetric,
		TargetValue: d.TargetValue, TotalValue: d.TotalValue, TargetBurstCapacity: d.TargetBurstCapacity,
		ActivatorCapacity: d.ActivatorCapacity, PanicThreshold: d.PanicThreshold,
		StableWindowSeconds: d.StableWindow.Seconds(), ScaleDownDelaySeconds: d.ScaleDownDelay.Seconds(),
		InitialScale: d.InitialScale, Reachable: d.Reachable, ActivationScale: d.ActivationScale,
	}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// cluster answers the autoscaler's two questions.
type cluster struct {
	pods          int
	podsError     error
	stable, panic float64
	metricError   error
}

func (c *cluster) ReadyCount() (int, error)    { return c.pods, c.podsError }
func (c *cluster) NotReadyCount() (int, error) { return 0, nil }

func (c *cluster) StableAndPanicConcurrency(types.NamespacedName, time.Time) (float64, float64, error) {
	return c.stable, c.panic, c.metricError
}

func (c *cluster) StableAndPanicRPS(types.NamespacedName, time.Time) (float64, float64, error) {
	return c.stable, c.panic, c.metricError
}

func failure(name string) error {
	switch name {
	case "":
		return nil
	case "NotFound":
		return apierrors.NewNotFound(schema.GroupResource{Resource: "endpoints"}, "revision")
	case "NoData":
		return metrics.ErrNoData
	}
	return errors.New(name)
}

// record runs the real autoscaler over the scenario. With `fill`, a step's inputs are made right before it.
func record(t *testing.T, scenario *Scenario, fill func(step *Step, desired int32)) {
	synctest.Test(t, func(*testing.T) {
		world := &cluster{pods: scenario.InitialReadyPods, podsError: failure(scenario.InitialReadyError)}
		if world.podsError != nil {
			world.pods = 0
		}
		start := time.Now()
		autoscaler := scaling.New(*attribute.EmptySet(), noop.NewMeterProvider(), "default", "revision",
			world, world, scenario.DeciderSpec.decider())
		// The panic is not exported.
		fields := reflect.ValueOf(autoscaler).Elem()
		panics := func() bool { return !fields.FieldByName("panicTime").IsZero() }
		scenario.InitialInPanic = panics()
		logger := zap.NewNop().Sugar()
		desired := int32(scenario.InitialReadyPods)
		for i := range scenario.Steps {
			step := &scenario.Steps[i]
			if fill != nil {
				fill(step, desired)
			}
			if step.DeciderSpec != nil {
				autoscaler.Update(step.DeciderSpec.decider())
			}
			*world = cluster{
				pods: step.ReadyPods, podsError: failure(step.ReadyError),
				stable: step.StableValue, panic: step.PanicValue, metricError: failure(step.MetricError),
			}
			if world.podsError != nil {
				world.pods = 0
			}
			result := autoscaler.Scale(logger, start.Add(seconds(step.T)))
			if result.ScaleValid {
				desired = result.DesiredPodCount
			}
			step.Expect = Expect{
				ScaleValid:          result.ScaleValid,
				DesiredPodCount:     result.DesiredPodCount,
				ExcessBurstCapacity: result.ExcessBurstCapacity,
				InPanic:             panics(),
				MaxPanicPods:        int32(fields.FieldByName("maxPanicPods").Int()),
			}
		}
	})
}
