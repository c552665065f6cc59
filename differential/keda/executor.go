package main

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	keda "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	"github.com/kedacore/keda/v2/pkg/scaling/executor"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
)

// Executor is one ScaledObject over time: what was seen at each poll and what was done.
type Executor struct {
	Name                    string         `json:"name"`
	Kind                    string         `json:"kind"`
	KedaVersion             string         `json:"kedaVersion"`
	ScaledObject            ScaledObject   `json:"scaledObject"`
	HPAMinReplicas          int32          `json:"hpaMinReplicas"`
	HPAMaxReplicas          int32          `json:"hpaMaxReplicas"`
	BoundsError             string         `json:"boundsError,omitempty"`
	PollingIntervalRelevant bool           `json:"pollingIntervalRelevant"`
	Steps                   []ExecutorStep `json:"steps"`
	// follow, where set, gives a step's replicas from those before it.
	follow func(step *ExecutorStep, replicas int32)
}

// ScaledObject holds the fields of the specification that the executor looks at.
type ScaledObject struct {
	MinReplicaCount       *int32            `json:"minReplicaCount,omitempty"`
	MaxReplicaCount       *int32            `json:"maxReplicaCount,omitempty"`
	IdleReplicaCount      *int32            `json:"idleReplicaCount,omitempty"`
	CooldownPeriod        *int32            `json:"cooldownPeriod,omitempty"`
	InitialCooldownPeriod *int32            `json:"initialCooldownPeriod,omitempty"`
	PollingInterval       *int32            `json:"pollingInterval,omitempty"`
	Fallback              *keda.Fallback    `json:"fallback,omitempty"`
	Annotations           map[string]string `json:"annotations,omitempty"`
	CreatedAt             int64             `json:"createdAt"`
}

// ExecutorStep is one poll.
type ExecutorStep struct {
	T           int64             `json:"t"`
	Replicas    int32             `json:"replicas"`
	IsActive    bool              `json:"isActive"`
	IsError     bool              `json:"isError"`
	GetError    bool              `json:"getError,omitempty"`
	UpdateError bool              `json:"updateError,omitempty"`
	Annotations map[string]string `json:"annotations,omitzero"`
	Expect      ExecutorExpect    `json:"expect"`
}

// ExecutorExpect is what the poll did.
type ExecutorExpect struct {
	ScaleTo        *int32            `json:"scaleTo,omitempty"`
	Replicas       int32             `json:"replicas"`
	LastActiveTime *int64            `json:"lastActiveTime,omitempty"`
	Conditions     map[string]string `json:"conditions"`
	Paused         bool              `json:"paused,omitempty"`
	Error          bool              `json:"error,omitempty"`
}

func (e *Executor) outcomes() []any {
	bounds := []any{e.HPAMinReplicas, e.HPAMaxReplicas, e.BoundsError != "", e.PollingIntervalRelevant}
	outcomes := []any{bounds}
	for _, step := range e.Steps {
		outcomes = append(outcomes, step.Expect)
	}
	return outcomes
}

func (e *Executor) run(t *testing.T) {
	synctest.Test(t, func(*testing.T) {
		spec := e.ScaledObject
		scaled := object(keda.ScaledObjectSpec{
			MinReplicaCount: spec.MinReplicaCount, MaxReplicaCount: spec.MaxReplicaCount,
			IdleReplicaCount: spec.IdleReplicaCount, CooldownPeriod: spec.CooldownPeriod,
			InitialCooldownPeriod: spec.InitialCooldownPeriod, PollingInterval: spec.PollingInterval,
			Fallback: spec.Fallback,
		})
		scaled.Annotations = spec.Annotations
		start := time.Now()
		at := func(seconds int64) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
		scaled.CreationTimestamp = metav1.NewTime(at(spec.CreatedAt))
		e.HPAMinReplicas, e.HPAMaxReplicas = *scaled.GetHPAMinReplicas(), scaled.GetHPAMaxReplicas()
		e.BoundsError = ""
		if err := keda.CheckReplicaCountBoundsAreValid(scaled); err != nil {
			e.BoundsError = err.Error()
		}
		e.PollingIntervalRelevant = scaled.IsPollingIntervalRelevant()

		world := &cluster{}
		loop := executor.NewScaleExecutor(world, world, nil, time.Second, events.NewFakeRecorder(1<<20))
		replicas := int32(-1)
		for i := range e.Steps {
			step := &e.Steps[i]
			if e.follow != nil {
				e.follow(step, replicas)
			}
			time.Sleep(time.Until(at(step.T)))
			if step.Annotations != nil {
				scaled.Annotations = step.Annotations
			}
			*world = cluster{replicas: step.Replicas, getFails: step.GetError, updateFails: step.UpdateError}
			result := loop.RequestScale(context.Background(), scaled, step.IsActive, step.IsError,
				executor.ScaleExecutorOptions{})
			step.Expect = apply(scaled, result, start)
			step.Expect.ScaleTo, step.Expect.Replicas = world.written, world.replicas
			replicas = world.replicas
		}
	})
}

// apply writes a result into the object's status, and tells what of it is compared.
func apply(scaled *keda.ScaledObject, result executor.ScaleResult, start time.Time) ExecutorExpect {
	expect := ExecutorExpect{Conditions: map[string]string{}, Error: result.Error != nil}
	for _, condition := range result.Conditions {
		scaled.Status.Conditions.SetCondition(condition.Type, condition.Status, condition.Reason, condition.Message)
		if condition.Type == keda.ConditionPaused {
			expect.Paused = condition.Status == metav1.ConditionTrue
		}
	}
	if result.LastActiveTime != nil {
		scaled.Status.LastActiveTime = result.LastActiveTime
	}
	if last := scaled.Status.LastActiveTime; last != nil {
		seconds := int64(last.Sub(start) / time.Second)
		expect.LastActiveTime = &seconds
	}
	for _, condition := range scaled.Status.Conditions {
		// Not set yet, or not the executor's.
		if condition.Reason == "" || condition.Type != keda.ConditionActive && condition.Type != keda.ConditionReady {
			continue
		}
		expect.Conditions[string(condition.Type)] = fmt.Sprintf("%s/%s", condition.Status, condition.Reason)
	}
	return expect
}
