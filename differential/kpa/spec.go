package main

import (
	"fmt"
	"math/rand/v2"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	autoscaling "knative.dev/serving/pkg/apis/autoscaling/v1alpha1"
	"knative.dev/serving/pkg/autoscaler/config"
	kparesources "knative.dev/serving/pkg/reconciler/autoscaling/kpa/resources"
	"knative.dev/serving/pkg/reconciler/autoscaling/resources"
)

// Conversion is a config map and a revision, and what its decider goes by.
type Conversion struct {
	Name                 string            `json:"name"`
	KnativeVersion       string            `json:"knativeVersion"`
	ConfigAutoscaler     map[string]string `json:"configAutoscaler"`
	Annotations          map[string]string `json:"annotations"`
	ContainerConcurrency int64             `json:"containerConcurrency"`
	Reachability         string            `json:"reachability"`
	ConfigError          string            `json:"configError,omitempty"`
	DeciderSpec          *Spec             `json:"deciderSpec,omitempty"`
	PanicWindowSeconds   float64           `json:"panicWindowSeconds"`
	MinScale             int32             `json:"minScale"`
	MaxScale             int32             `json:"maxScale"`
}

var (
	numbers     = []string{"0", "1", "10", "70", "100", "0.5", "1.5", "33.3", "1e2", "+5", "0.01", "0.009", "1000", "250.5", "-1", "-0.5", ".5", "5.", "1e400", "1_000", " 1", "", "ten", "101", "1.0000001", "1e-320"}
	percentages = []string{"1", "10", "33.3", "50", "70", "99.9", "100", "0.5", "1.0", "0.7", "110", "200", "400", "1000", "0", "-1", "101", "x"}
	counts      = []string{"0", "1", "2", "3", "5", "10", "20", "-1", "+3", "007", "2147483647", "2147483648", "1.5", "x", ""}
	spans       = []string{"0s", "6s", "15s", "30s", "45s", "60s", "1m", "2m", "15m", "1h", "1h0m1s", "5s", "6.5s", "1m30s", "1500ms", "0", "10", "1d", "-5s", "59m60s", "7000ms", ".1m", "1.s", "+9s", "6000000us", "x", ""}
	booleans    = []string{"true", "false", "1", "0", "T", "False", "yes", "TRUE", ""}
)

var settings = map[string][]string{
	"enable-scale-to-zero": booleans, "allow-zero-initial-scale": booleans,
	"max-scale-up-rate": numbers, "max-scale-down-rate": numbers,
	"container-concurrency-target-percentage": percentages, "container-concurrency-target-default": numbers,
	"requests-per-second-target-default": numbers, "target-burst-capacity": numbers, "activator-capacity": numbers,
	"panic-window-percentage": percentages, "panic-threshold-percentage": percentages,
	"initial-scale": counts, "min-scale": counts, "max-scale": counts, "max-scale-limit": counts,
	"stable-window": spans, "scale-down-delay": spans, "scale-to-zero-grace-period": spans,
	"scale-to-zero-pod-retention-period": spans,
}

var annotations = map[string][]string{
	"initial-scale": counts, "initialScale": counts, "min-scale": counts, "minScale": counts, "max-scale": counts,
	"maxScale": counts, "activation-scale": counts, "metric": {"concurrency", "rps", "cpu", "memory", "custom", ""},
	"target": numbers, "target-utilization-percentage": percentages, "targetUtilizationPercentage": percentages,
	"target-burst-capacity": numbers, "targetBurstCapacity": numbers, "window": spans, "scale-down-delay": spans,
	"scaleDownDelay": spans, "panic-window-percentage": percentages, "panicWindowPercentage": percentages,
	"panic-threshold-percentage": percentages, "panicThresholdPercentage": percentages,
}

// convert draws one conversion and records it.
func convert(seed uint64, index int) *Conversion {
	d := dice{rand.New(rand.NewPCG(seed, 1<<32+uint64(index)))}
	c := &Conversion{
		Name:           fmt.Sprintf("spec-%d-%d", seed, index),
		KnativeVersion: "v0.51.0",
		// Few settings in most: one refused setting hides the others.
		ConfigAutoscaler:     d.some(settings, "", pick(d, []int{0, 0, 1, 1, 2, 5})),
		Annotations:          d.some(annotations, "autoscaling.knative.dev/", pick(d, []int{0, 1, 2, 4, 8})),
		ContainerConcurrency: pick(d, []int64{0, 0, 1, 10, 100, 1000}),
		Reachability:         pick(d, []string{"", "Reachable", "Unreachable"}),
	}
	configuration, err := config.NewConfigFromMap(c.ConfigAutoscaler)
	if err != nil {
		c.ConfigError = err.Error()
		return c
	}
	revision := &autoscaling.PodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: "revision", Namespace: "default", Annotations: c.Annotations},
		Spec: autoscaling.PodAutoscalerSpec{
			ContainerConcurrency: c.ContainerConcurrency,
			Reachability:         autoscaling.ReachabilityType(c.Reachability),
		},
	}
	decider := specOf(kparesources.MakeDecider(revision, configuration).Spec)
	c.DeciderSpec = &decider
	c.PanicWindowSeconds = resources.MakeMetric(revision, "", configuration).Spec.PanicWindow.Seconds()
	c.MinScale, c.MaxScale = revision.ScaleBounds(configuration)
	if decider.StableWindowSeconds < 0 || decider.ScaleDownDelaySeconds < 0 {
		// Admission refuses such a revision, so nobody is asked to convert it.
		return convert(seed, index+1<<20)
	}
	return c
}

func (d dice) some(from map[string][]string, prefix string, count int) map[string]string {
	names := make([]string, 0, len(from))
	for name := range from {
		names = append(names, name)
	}
	// A map's order is random, and a seed must give the same again.
	slices.Sort(names)
	chosen := map[string]string{}
	for range count {
		name := pick(d, names)
		chosen[prefix+name] = pick(d, from[name])
	}
	return chosen
}
