package main

import (
	"fmt"
	"math"
)

// targets are milli-values with a way that a user might write them.
var targets = []struct {
	milli int64
	text  any
}{
	{1000, "1"}, {5000, "5"}, {10000, "10"}, {70000, 70}, {1500, "1500m"}, {500, "0.5"}, {100, "100m"},
	{1000000, "1k"}, {2048000, "2Ki"}, {1000000, "1e3"}, {2500, "2.5"}, {3000, "3.000"}, {1, "1m"}, {333, "0.333"},
	{1, "100u"}, {1, "1n"}, {1235, "1.2345"}, {1536 << 20 * 1000, "1.5Gi"}, {100000, "1e2"}, {7000, "7E0"}, {120000, "12e1"},
}

// hugeTargets overflow here and there.
var hugeTargets = []any{
	"9223372036854775807", "9223372036854775807m", "9223372036854775", "9223372036854776", "9.2E", "10E", "1E", "1P", "999P",
	"8Ei", "7Ei", "1Ei", "1Pi", "1e18", "1e19", "1e15", "9e15", "1e16", "123456789012345678", "1234567890123456789",
	"12345678901234567890", "1000T", "10000T", "100000T", "0.000000001", "0.0000000001", "1.000000001", "999999999999.999999999",
}

// extremes are values near the ends of their types.
var extremes = []int64{
	0, 1, -1, -1000, -5000, 999, 1001, math.MaxInt32, math.MinInt32, math.MaxInt32 * 1000, math.MinInt32 * 1000,
	(math.MaxInt32 + 1) * 1000, math.MaxInt64, math.MaxInt64 - 1, math.MaxInt64 / 2, math.MaxInt64/2 + 1, math.MaxInt64 / 100,
	math.MaxInt64/100 + 1, math.MinInt64, math.MinInt64 + 1, math.MinInt64 / 2, 1 << 53, 1<<53 + 1, 1e15, 1e18, -1e18,
}

// metric draws a metric of the specification.
func (g *generator) metric() (metricSpec, map[string]any) {
	source := pick(g.dice, g.family.sources)
	metric := metricSpec{source: source, resource: "cpu", container: "main"}
	if source == "Memory" || source == "ContainerResource" && g.chance(0.4) {
		metric.resource = "memory"
	}
	if source == "Memory" {
		source, metric.source = "Resource", "Resource"
	}
	if source == "ContainerResource" {
		metric.container = pick(g.dice, []string{"main", "main", "main", "main", "main", "main", "proxy", "side", "nowhere"})
	}
	drawn := pick(g.dice, targets)
	metric.target = drawn.milli
	written := drawn.text
	if g.chance(g.family.extreme / 2) {
		written = pick(g.dice, hugeTargets)
		metric.target = math.MaxInt64 / 1000
	}
	identifier := map[string]any{"name": fmt.Sprintf("metric-%d", g.between(0, 3))}
	if g.chance(0.2) {
		identifier["selector"] = pick(g.dice, []map[string]any{
			{"matchLabels": map[string]any{"queue": "a"}},
			{"matchLabels": map[string]any{"queue": "a", "zone": "b"}, "matchExpressions": []any{
				map[string]any{"key": "tier", "operator": "In", "values": []string{"x", "y"}}}},
			{"matchExpressions": []any{map[string]any{"key": "tier", "operator": "Exists"}}},
			{"matchExpressions": []any{map[string]any{"key": "tier", "operator": "NotIn", "values": []string{"x"}},
				map[string]any{"key": "old", "operator": "DoesNotExist"}}},
			{},
		})
	}
	average := map[string]any{"type": "AverageValue", "averageValue": written}
	value := map[string]any{"type": "Value", "value": written}
	if g.chance(0.03) {
		// Admitted, though only Object metrics look at the type and then find no value.
		average["type"], value["type"] = "Value", "AverageValue"
	}
	described := map[string]any{"kind": "Service", "name": "front", "apiVersion": "v1"}
	if g.chance(0.2) {
		described = map[string]any{"kind": "Namespace", "name": "default", "apiVersion": "v1"}
	}
	switch source {
	case "Pods":
		return metric, map[string]any{"type": "Pods", "pods": map[string]any{"metric": identifier, "target": average}}
	case "Object", "ObjectAverage":
		target := value
		if source == "ObjectAverage" {
			target = average
		}
		object := map[string]any{"metric": identifier, "target": target, "describedObject": described}
		return metric, map[string]any{"type": "Object", "object": object}
	case "External", "ExternalAverage":
		target := value
		if source == "ExternalAverage" {
			target = average
		}
		return metric, map[string]any{"type": "External", "external": map[string]any{"metric": identifier, "target": target}}
	}
	if g.chance(0.7) {
		metric.percent = true
		metric.target = int64(pick(g.dice, []int{1, 30, 50, 60, 70, 80, 80, 90, 100, 110, 150, 200, 1000}))
		if g.chance(g.family.extreme / 2) {
			metric.target = pick(g.dice, []int64{1<<31 - 1, 1 << 30, 100_000})
		}
		average = map[string]any{"type": "Utilization", "averageUtilization": metric.target}
	}
	resource := map[string]any{"name": metric.resource, "target": average}
	if source == "ContainerResource" {
		resource["container"] = metric.container
		return metric, map[string]any{"type": "ContainerResource", "containerResource": resource}
	}
	return metric, map[string]any{"type": "Resource", "resource": resource}
}

// answer draws what the metrics API says to a metric.
func (g *generator) answer(metric metricSpec, step *Step) Metric {
	if g.chance(g.family.failing) {
		return Metric{Error: "failed"}
	}
	target := float64(metric.target)
	switch metric.source {
	case "Object", "ObjectAverage":
		return Metric{Value: ptr(g.value(g.total(metric, step) * target))}
	case "External", "ExternalAverage":
		values := []int64{}
		if !g.chance(0.01) {
			series := g.between(1, 3)
			for range series {
				values = append(values, g.value(g.total(metric, step)*target/float64(series)))
			}
		}
		return Metric{Values: values}
	}
	answer := Metric{Pods: map[string]int64{}}
	if g.chance(0.4) || metric.resource == "cpu" && metric.source != "Pods" {
		answer.Timestamp = ptr(step.T - int64(g.between(0, 90)))
		answer.Window = ptr(int64(pick(g.dice, []int{10, 15, 30, 60, 120})))
	}
	share := g.total(metric, step) / float64(max(len(step.Pods), 1))
	for _, pod := range step.Pods {
		if g.chance(g.family.silent) || pod.Phase == "Pending" && g.chance(0.7) {
			continue
		}
		value := share * target
		if metric.percent {
			value *= float64(g.request(pod, metric)) / 100
		}
		if g.chance(0.3) {
			value *= 0.5 + g.Float64()
		}
		answer.Pods[pod.Name] = g.value(value)
		if g.chance(0.1) {
			if answer.Timestamps == nil {
				answer.Timestamps = map[string]int64{}
			}
			answer.Timestamps[pod.Name] = step.T - int64(g.between(-5, 200))
		}
	}
	if g.chance(0.05) {
		answer.Pods["stranger"] = g.value(share * target)
	}
	return answer
}

// total is the load as a multiple of one pod's target; sometimes right at the edge of a tolerance.
func (g *generator) total(metric metricSpec, step *Step) float64 {
	if step.T >= g.idleFrom && step.T < g.idleTill {
		return 0
	}
	pods := float64(max(len(step.Pods), 1))
	if metric.source == "ExternalAverage" || metric.source == "ObjectAverage" {
		pods = float64(max(step.StatusReplicas, 1))
	}
	if g.chance(0.2) {
		edge := pick(g.dice, []float64{1, 1 - g.scenario.Config.Tolerance, 1 + g.scenario.Config.Tolerance, 0.95, 1.05, 0.8, 1.2, 0.3, 1.7})
		if metric.source == "External" || metric.source == "Object" {
			return edge
		}
		return edge * pods
	}
	if metric.source == "External" || metric.source == "Object" {
		// A ratio, which is multiplied by the pods; at zero it is the count itself.
		return g.load / float64(max(step.SpecReplicas, 1))
	}
	return g.load
}

// value makes a sample of a wish, or something else altogether.
func (g *generator) value(wish float64) int64 {
	if g.chance(g.family.extreme) {
		return pick(g.dice, extremes)
	}
	if math.Abs(wish) > 1e18 {
		return math.MaxInt64
	}
	return int64(math.Round(wish)) + int64(pick(g.dice, []int{0, 0, 0, 0, 1, -1}))
}

func (g *generator) request(pod Pod, metric metricSpec) int64 {
	containers := pod.Containers
	if containers == nil {
		containers = g.scenario.Containers
	}
	var total int64
	for _, container := range containers {
		if metric.source == "Resource" || container.Name == metric.container {
			total += container.Requests[metric.resource]
		}
	}
	return total
}
