package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	keda "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	"github.com/kedacore/keda/v2/pkg/fallback"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/metrics/pkg/apis/external_metrics"
)

// Fallback is one trigger over time: what it said and what the HPA was told.
type Fallback struct {
	Name        string                         `json:"name"`
	Kind        string                         `json:"kind"`
	KedaVersion string                         `json:"kedaVersion"`
	Fallback    *keda.Fallback                 `json:"fallback,omitempty"`
	TargetType  autoscalingv2.MetricTargetType `json:"targetType"`
	Target      string                         `json:"target"`
	Steps       []FallbackStep                 `json:"steps"`
}

// FallbackStep is one query; values are milli-units.
type FallbackStep struct {
	Error             bool   `json:"error"`
	Value             int64  `json:"value"`
	Replicas          int32  `json:"replicas"`
	ReadyPods         int    `json:"readyPods"`
	Served            *int64 `json:"served,omitempty"`
	FallbackActive    bool   `json:"fallbackActive"`
	Failures          *int32 `json:"failures,omitempty"`
	FallbackCondition string `json:"fallbackCondition"`
}

const metric = "s0-metric"

func (f *Fallback) outcomes() []any {
	var outcomes []any
	for _, step := range f.Steps {
		outcomes = append(outcomes, []any{step.Served, step.FallbackActive, step.Failures, step.FallbackCondition})
	}
	return outcomes
}

func (f *Fallback) run(*testing.T) {
	scaled := object(keda.ScaledObjectSpec{Fallback: f.Fallback})
	target := resource.MustParse(f.Target)
	spec := autoscalingv2.MetricSpec{
		Type:     autoscalingv2.ExternalMetricSourceType,
		External: &autoscalingv2.ExternalMetricSource{Target: autoscalingv2.MetricTarget{Type: f.TargetType}},
	}
	if f.TargetType == autoscalingv2.ValueMetricType {
		spec.External.Target.Value = &target
	} else {
		spec.External.Target.AverageValue = &target
	}
	var lock sync.RWMutex
	for i := range f.Steps {
		step := &f.Steps[i]
		world := &cluster{replicas: step.Replicas, readyPods: step.ReadyPods}
		handler := fallback.ScaledObjectHandler{
			Ctx: context.Background(), KubeClient: world, ScaleClient: world, UpdateLock: &lock, ScaledObject: scaled,
		}
		var failure error
		if step.Error {
			failure = errors.New("the trigger failed")
		}
		values := []external_metrics.ExternalMetricValue{{
			MetricName: metric, Value: *resource.NewMilliQuantity(step.Value, resource.DecimalSI),
		}}
		served, active, err := fallback.GetMetricsWithFallback(handler, values, failure, metric, spec)
		step.Served, step.Failures, step.FallbackActive = nil, nil, active
		if err == nil && len(served) > 0 {
			value := served[0].Value.MilliValue()
			step.Served = &value
		}
		if health, found := scaled.Status.Health[metric]; found {
			failures := *health.NumberOfFailures
			step.Failures = &failures
		}
		condition := scaled.Status.Conditions.GetFallbackCondition()
		step.FallbackCondition = fmt.Sprintf("%s/%s", condition.Status, condition.Reason)
	}
}
