package main

import (
	"encoding/json"
)

// Scenario is one run: the inputs of each reconcile and what the real controller did. Times are whole
// seconds from the first reconcile; values, requests and observations are milli-units.
type Scenario struct {
	Name              string          `json:"name"`
	Family            string          `json:"family"`
	KubernetesVersion string          `json:"kubernetesVersion"`
	HPA               json.RawMessage `json:"hpa"`
	DefaultedSpec     json.RawMessage `json:"defaultedSpec,omitempty"`
	Config            Config          `json:"config"`
	Containers        []Container     `json:"containers"`
	Steps             []Step          `json:"steps"`
}

// Config holds the controller's flags.
type Config struct {
	SyncPeriodSeconds              int64   `json:"syncPeriodSeconds"`
	Tolerance                      float64 `json:"tolerance"`
	DownscaleStabilizationSeconds  int64   `json:"downscaleStabilizationSeconds"`
	CPUInitializationPeriodSeconds int64   `json:"cpuInitializationPeriodSeconds"`
	InitialReadinessDelaySeconds   int64   `json:"initialReadinessDelaySeconds"`
}

// Container is one container's requests.
type Container struct {
	Name     string           `json:"name"`
	Requests map[string]int64 `json:"requests"`
	Sidecar  bool             `json:"sidecar,omitempty"`
}

// Step is one reconcile.
type Step struct {
	T                int64           `json:"t"`
	HPA              json.RawMessage `json:"hpa,omitempty"`
	DefaultedSpec    json.RawMessage `json:"defaultedSpec,omitempty"`
	SpecReplicas     int32           `json:"specReplicas"`
	StatusReplicas   int32           `json:"statusReplicas"`
	Pods             []Pod           `json:"pods"`
	Metrics          []Metric        `json:"metrics"`
	GetScaleError    string          `json:"getScaleError,omitempty"`
	UpdateScaleError string          `json:"updateScaleError,omitempty"`
	Expect           Expect          `json:"expect"`
}

// Pod is a pod that the selector matches.
type Pod struct {
	Name            string      `json:"name"`
	Phase           string      `json:"phase"`
	Ready           any         `json:"ready,omitempty"` // a bool, or "Unknown"; nil: no such condition
	ReadyTransition *int64      `json:"readyTransition,omitempty"`
	Start           *int64      `json:"start,omitempty"`
	Deletion        *int64      `json:"deletion,omitempty"`
	Containers      []Container `json:"containers,omitempty"`
}

// Metric answers one metric of the specification.
type Metric struct {
	Error      string           `json:"error,omitempty"`
	Pods       map[string]int64 `json:"pods,omitempty"`
	Value      *int64           `json:"value,omitempty"`
	Values     []int64          `json:"values,omitempty"`
	Timestamp  *int64           `json:"timestamp,omitempty"`
	Window     *int64           `json:"window,omitempty"`
	Timestamps map[string]int64 `json:"timestamps,omitempty"`
}

// MarshalJSON keeps an empty answer distinct from an absent one.
func (m Metric) MarshalJSON() ([]byte, error) {
	out := map[string]any{}
	if m.Error != "" {
		out["error"] = m.Error
		return json.Marshal(out)
	}
	if m.Pods != nil {
		out["pods"] = m.Pods
	}
	if m.Value != nil {
		out["value"] = *m.Value
	}
	if m.Values != nil {
		out["values"] = m.Values
	}
	if m.Timestamp != nil {
		out["timestamp"] = *m.Timestamp
	}
	if m.Window != nil {
		out["window"] = *m.Window
	}
	if len(m.Timestamps) > 0 {
		out["timestamps"] = m.Timestamps
	}
	return json.Marshal(out)
}

// Expect is what the controller did.
type Expect struct {
	ScaleUpdate           *int32            `json:"scaleUpdate,omitempty"`
	DesiredReplicas       int32             `json:"desiredReplicas"`
	StatusCurrentReplicas int32             `json:"statusCurrentReplicas"`
	StatusDesiredReplicas int32             `json:"statusDesiredReplicas"`
	Conditions            map[string]string `json:"conditions"`
	Observed              []*int64          `json:"observed,omitempty"`
}

// ptr gives a value an address.
func ptr[T any](value T) *T { return &value }
