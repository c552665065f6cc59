package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
)

// family says what a scenario is about, as chances between 0 and 1 of each irregularity.
type family struct {
	name     string
	sources  []string // metric types to draw from
	metrics  int      // at most so many
	flags    float64  // controller flags that are not the defaults
	behavior float64  // a behavior in the specification
	mess     float64  // pods in states of no particular order, per pod and step
	override float64  // pods with requests of their own
	silent   float64  // samples that are missing, per pod
	failing  float64  // queries that fail
	errors   float64  // scale reads and writes that fail
	foreign  float64  // somebody else changes the scale
	lag      float64  // fewer or more pods exist than are asked for
	changes  int      // specifications replaced in flight, at most
	extreme  float64  // values near the ends of their types
	zero     float64  // a minimum of zero
	idle     float64  // a spell without any load
}

var families = []family{
	{name: "cpu-init", sources: []string{"Resource"}, metrics: 1, flags: 0.5, behavior: 0.3, mess: 0.1, silent: 0.1},
	{name: "memory", sources: []string{"Memory"}, metrics: 1, flags: 0.2, behavior: 0.3, mess: 0.1, silent: 0.1, override: 0.2},
	{name: "container", sources: []string{"ContainerResource"}, metrics: 2, flags: 0.3, behavior: 0.3, mess: 0.05, silent: 0.1, override: 0.4},
	{name: "requests", sources: []string{"Resource", "Memory", "ContainerResource"}, metrics: 2, behavior: 0.3, override: 0.8, mess: 0.05, silent: 0.2},
	{name: "flags", sources: []string{"Resource", "Pods", "External", "ExternalAverage"}, metrics: 2, flags: 1, behavior: 0.4, silent: 0.05},
	{name: "scale-errors", sources: []string{"Pods", "External", "Object"}, metrics: 2, behavior: 0.7, errors: 0.3, failing: 0.1, foreign: 0.05, zero: 0.3, idle: 0.5},
	{name: "spec-change", sources: []string{"Pods", "External", "ExternalAverage", "Object", "Resource"}, metrics: 3, flags: 0.2, behavior: 0.8, changes: 8, foreign: 0.05, zero: 0.3, idle: 0.5},
	{name: "extreme", sources: []string{"Pods", "External", "ExternalAverage", "Object", "ObjectAverage", "Resource", "Memory"}, metrics: 3, flags: 0.3, behavior: 0.6, extreme: 0.5, silent: 0.1, foreign: 0.1, lag: 0.3, zero: 0.3},
	{name: "object", sources: []string{"Object", "ObjectAverage"}, metrics: 3, behavior: 0.5, failing: 0.05, mess: 0.05, lag: 0.5, zero: 0.4, idle: 0.5},
	{name: "external", sources: []string{"External", "ExternalAverage"}, metrics: 3, behavior: 0.5, failing: 0.05, mess: 0.05, lag: 0.5, zero: 0.4, idle: 0.5},
	{name: "pods-mix", sources: []string{"Pods"}, metrics: 2, behavior: 0.5, mess: 0.4, silent: 0.3, lag: 0.3},
	{name: "cpu-mix", sources: []string{"Resource", "ContainerResource"}, metrics: 2, flags: 0.3, behavior: 0.3, mess: 0.4, silent: 0.3, override: 0.1},
	{name: "zero", sources: []string{"External", "ExternalAverage", "Object", "ObjectAverage", "Pods"}, metrics: 2, flags: 0.2, behavior: 0.6, foreign: 0.05, changes: 3, errors: 0.05, failing: 0.05, zero: 1, idle: 1},
	{name: "bounds", sources: []string{"Pods", "ExternalAverage", "Resource"}, metrics: 2, behavior: 0.5, foreign: 0.3, changes: 4, lag: 0.2, zero: 0.2},
	{name: "behavior", sources: []string{"Pods", "ExternalAverage"}, metrics: 1, behavior: 1, foreign: 0.05, lag: 0.1},
	{name: "multi", sources: []string{"Pods", "External", "ExternalAverage", "Object", "ObjectAverage", "Resource", "Memory", "ContainerResource"}, metrics: 5, behavior: 0.5, failing: 0.2, silent: 0.1, mess: 0.05, zero: 0.2},
	{name: "everything", sources: []string{"Pods", "External", "ExternalAverage", "Object", "ObjectAverage", "Resource", "Memory", "ContainerResource"}, metrics: 3, flags: 0.5, behavior: 0.6, mess: 0.1, override: 0.1, silent: 0.1, failing: 0.05, errors: 0.05, foreign: 0.05, lag: 0.3, changes: 4, extreme: 0.05, zero: 0.3, idle: 0.5},
}

// attempts is how often a scenario is drawn until the API server would admit all of its specifications.
const attempts = 1000

// generate draws one scenario and records it.
func generate(t *testing.T, seed uint64, index int) (*Scenario, error) {
	family := families[index%len(families)]
	var err error
	for attempt := range uint64(attempts) {
		draw := dice{rand.New(rand.NewPCG(seed, uint64(index)*attempts+attempt))}
		scenario := &Scenario{
			Name:              fmt.Sprintf("%s-%d-%d", family.name, seed, index),
			Family:            family.name,
			KubernetesVersion: "v1.37.2",
		}
		g := &generator{dice: draw, family: family, scenario: scenario}
		g.plan()
		if err = g.admissible(); err != nil {
			continue
		}
		return scenario, record(t, scenario, g.fill)
	}
	return nil, fmt.Errorf("%s: no admissible scenario in %d attempts: %w", family.name, attempts, err)
}

// generator holds one scenario in the making.
type generator struct {
	dice
	family   family
	scenario *Scenario
	spec     spec
	fleet    fleet
	load     float64        // of all pods together, as a multiple of the target of one
	later    map[int64]spec // the specifications that replace the first, by their time
	idleFrom int64
	idleTill int64
}

// spec is a specification as a user writes it, in as far as values are drawn for it.
type spec struct {
	Min     *int32
	Max     int32
	Metrics []metricSpec
	JSON    map[string]any
}

// metricSpec is a metric of a specification.
type metricSpec struct {
	source    string
	resource  string // of Resource and ContainerResource metrics
	container string
	target    int64 // milli-units, or percent
	percent   bool
}

// plan draws everything that is known before the run.
func (g *generator) plan() {
	s := g.scenario
	s.Config = g.config()
	s.Containers = g.containers(g.chance(g.family.override / 4))
	g.spec = g.draw(spec{})
	s.HPA = g.manifest(g.spec)
	g.load = float64(g.between(0, 6))
	count := g.between(15, 60)
	period := s.Config.SyncPeriodSeconds
	updates := map[int64]bool{}
	if g.family.changes > 0 && period > 1 {
		for range g.between(1, g.family.changes) {
			updates[int64(g.between(0, count-1))] = true
		}
	}
	previous := g.spec
	g.later = map[int64]spec{}
	for k := range int64(count) {
		s.Steps = append(s.Steps, Step{T: k * period})
		if updates[k] {
			previous = g.draw(previous)
			at := k*period + int64(g.between(1, int(period)-1))
			s.Steps = append(s.Steps, Step{T: at, HPA: g.manifest(previous)})
			g.later[at] = previous
		}
	}
	if g.chance(g.family.idle) {
		g.idleFrom = int64(g.between(0, count/2)) * period
		g.idleTill = g.idleFrom + int64(g.between(1, count))*period
	}
	g.fleet.replicas = g.initialReplicas()
}

// admissible asks the API server's own code.
func (g *generator) admissible() error {
	if _, _, err := admit(g.scenario.HPA); err != nil {
		return err
	}
	for _, step := range g.scenario.Steps {
		if step.HPA != nil {
			if _, _, err := admit(step.HPA); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *generator) config() Config {
	config := Config{
		SyncPeriodSeconds: 15, Tolerance: 0.1, DownscaleStabilizationSeconds: 300,
		CPUInitializationPeriodSeconds: 300, InitialReadinessDelaySeconds: 30,
	}
	if g.chance(g.family.flags) {
		config.SyncPeriodSeconds = pick(g.dice, []int64{15, 1, 2, 5, 7, 10, 30, 60, 113})
		config.Tolerance = pick(g.dice, []float64{0.1, 0, 0.01, 0.05, 0.2, 0.3, 1.0 / 3, 0.5, 0.7, 1, 2})
		config.DownscaleStabilizationSeconds = pick(g.dice, []int64{300, 0, 1, 15, 30, 45, 60, 90, 600, 3600})
		config.CPUInitializationPeriodSeconds = pick(g.dice, []int64{300, 0, 1, 15, 30, 60, 120, 600})
		config.InitialReadinessDelaySeconds = pick(g.dice, []int64{30, 0, 1, 10, 60, 120, 400})
	}
	return config
}

func (g *generator) containers(odd bool) []Container {
	requests := func() map[string]int64 {
		requests := map[string]int64{
			"cpu":    pick(g.dice, []int64{1, 10, 100, 250, 333, 500, 1000, 4000}),
			"memory": pick(g.dice, []int64{1000, 64 << 20 * 1000, 1e12, 4e12, 123456789}),
		}
		if odd {
			switch g.between(0, 5) {
			case 0:
				delete(requests, "cpu")
			case 1:
				delete(requests, "memory")
			case 2:
				requests["cpu"] = 0
			case 3:
				requests["memory"], requests["cpu"] = 0, 0
			}
		}
		return requests
	}
	containers := []Container{{Name: "main", Requests: requests()}}
	if odd && g.chance(0.1) {
		containers[0].Name = "other"
	}
	if g.chance(0.3) {
		containers = append(containers, Container{Name: "proxy", Requests: requests()})
	}
	if g.chance(0.4) {
		containers = append(containers, Container{Name: "side", Requests: requests(), Sidecar: true})
	}
	return containers
}

// draw makes a specification; one that replaces another keeps parts of it.
func (g *generator) draw(previous spec) spec {
	next := previous
	first := previous.JSON == nil
	if first || g.chance(0.5) {
		next.Max = int32(pick(g.dice, []int{1, 2, 3, 5, 8, 10, 20, 20, 50, 100, 100, 1000}))
		next.Min = nil
		if g.chance(0.8) {
			next.Min = ptr(int32(g.between(1, min(int(next.Max), 6))))
		}
		if g.chance(0.1) {
			next.Min = ptr(next.Max)
		}
		if g.chance(g.family.zero) {
			next.Min = ptr(int32(0))
		}
		if g.chance(g.family.extreme / 2) {
			next.Max = pick(g.dice, []int32{1<<31 - 1, 1<<31 - 2, 1 << 30, 1<<30 + 1, 2_000_000_000, 100_000})
		}
	}
	document := map[string]any{"scaleTargetRef": map[string]any{"kind": "Deployment", "name": "target", "apiVersion": "apps/v1"}}
	for _, key := range []string{"metrics", "behavior"} {
		if old, found := previous.JSON[key]; found {
			document[key] = old
		}
	}
	document["maxReplicas"] = next.Max
	if next.Min != nil {
		document["minReplicas"] = *next.Min
	}
	if first || g.chance(0.3) {
		next.Metrics = nil
		metrics := []any{}
		for range g.between(1, g.family.metrics) {
			metric, json := g.metric()
			next.Metrics = append(next.Metrics, metric)
			metrics = append(metrics, json)
		}
		document["metrics"] = metrics
		if (len(g.family.sources) == 1 && g.family.sources[0] == "Resource") && g.chance(0.2) {
			delete(document, "metrics")
			next.Metrics = []metricSpec{{source: "Resource", resource: "cpu", target: 80, percent: true}}
		}
	}
	if first || g.chance(0.6) {
		delete(document, "behavior")
		if g.chance(g.family.behavior) {
			document["behavior"] = g.behavior()
		}
		if g.chance(0.4) {
			document["behavior"] = unhindered
		}
	}
	next.JSON = document
	return next
}

func (g *generator) manifest(s spec) json.RawMessage {
	text, err := json.Marshal(map[string]any{
		"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
		"metadata": map[string]any{"name": "hpa"}, "spec": s.JSON,
	})
	if err != nil {
		panic(err)
	}
	return text
}

// unhindered lets every proposal show in the outcome.
var unhindered = map[string]any{
	"scaleUp": map[string]any{"policies": []any{map[string]any{"type": "Percent", "value": 10000, "periodSeconds": 1}}},
	"scaleDown": map[string]any{
		"stabilizationWindowSeconds": 0,
		"policies":                   []any{map[string]any{"type": "Percent", "value": 100, "periodSeconds": 1}},
	},
}

func (g *generator) behavior() map[string]any {
	behavior := map[string]any{}
	// Now short, now long, so that a replaced specification looks back at events that the last one gave up.
	periods := pick(g.dice, [][]int{{1, 14, 15, 16, 30, 45, 60, 60, 120, 300, 1800}, {1, 14, 15, 16, 30}, {300, 900, 1800}})
	for _, direction := range []string{"scaleUp", "scaleDown"} {
		if g.chance(0.3) {
			continue
		}
		rules := map[string]any{}
		if g.chance(0.7) {
			rules["stabilizationWindowSeconds"] = pick(g.dice, []int{0, 0, 1, 14, 15, 16, 30, 60, 60, 120, 300, 600, 3600})
		}
		if g.chance(0.4) {
			rules["selectPolicy"] = pick(g.dice, []string{"Max", "Min", "Disabled", "Max", "Min"})
		}
		if g.chance(0.3) {
			rules["tolerance"] = pick(g.dice, []any{"0", "0.05", "50m", "0.1", "0.2", "0.25", "0.3", "0.7", "1", "1.5", "333m", "1e-2", "1u", "0.123456789", "10"})
		}
		if g.chance(0.7) {
			policies := []any{}
			for range g.between(1, 3) {
				policy := map[string]any{
					"type":          "Pods",
					"value":         pick(g.dice, []int{1, 1, 2, 3, 4, 5, 10, 100}),
					"periodSeconds": pick(g.dice, periods),
				}
				if g.chance(0.5) {
					policy["type"] = "Percent"
					policy["value"] = pick(g.dice, []int{1, 5, 10, 20, 33, 50, 80, 100, 110, 150, 200, 900, 1000})
				}
				if g.chance(g.family.extreme / 2) {
					policy["value"] = pick(g.dice, []int{1<<31 - 1, 1 << 30, 2_000_000_000, 1_000_000})
				}
				policies = append(policies, policy)
			}
			rules["policies"] = policies
		}
		behavior[direction] = rules
	}
	return behavior
}

func (g *generator) initialReplicas() int32 {
	if g.chance(0.02 + g.family.zero/20) {
		return 0
	}
	switch g.between(0, 8) {
	case 1:
		return g.spec.Max
	case 2:
		return g.anyReplicas()
	}
	return int32(g.between(1, int(min(g.spec.Max, 12))))
}

func (g *generator) anyReplicas() int32 {
	if g.chance(g.family.extreme) {
		return pick(g.dice, []int32{1<<31 - 1, 1<<31 - 2, 1 << 30, 1<<30 - 1, 1_500_000_000, 100_000, 0})
	}
	return int32(g.between(0, int(min(g.spec.Max, 1000))+5))
}

// dice draws values.
type dice struct{ *rand.Rand }

func (d dice) chance(share float64) bool { return d.Float64() < share }

// between is uniform, both ends included.
func (d dice) between(low, high int) int {
	if high <= low {
		return low
	}
	return low + d.IntN(high-low+1)
}

func pick[T any](d dice, from []T) T { return from[d.IntN(len(from))] }
