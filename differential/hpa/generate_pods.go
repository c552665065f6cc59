package main

import "fmt"

// fleet imitates a workload whose pods follow the replicas asked for, late and not always well.
type fleet struct {
	replicas int32
	created  int
	living   int
	pods     []*member
}

// member is a pod and what is to become of it.
type member struct {
	Pod
	runs, becomesReady, gone int64
}

// crowd is how many pods exist at most, however many replicas are asked for.
const crowd = 40

// fill draws a step's inputs.
func (g *generator) fill(step *Step, replicas int32) {
	if next, found := g.later[step.T]; found {
		g.spec = next
	}
	if step.T == 0 {
		replicas = g.fleet.replicas
	}
	if g.chance(g.family.foreign) {
		replicas = g.anyReplicas()
	}
	step.SpecReplicas = replicas
	g.walk()
	g.follow(step)
	step.Metrics = []Metric{}
	for _, metric := range g.spec.Metrics {
		step.Metrics = append(step.Metrics, g.answer(metric, step))
	}
	if g.chance(g.family.errors) {
		if g.chance(0.4) {
			step.GetScaleError = "failed"
		} else {
			step.UpdateScaleError = "failed"
		}
	}
}

// walk lets the load wander, and jump.
func (g *generator) walk() {
	switch g.between(0, 19) {
	case 0:
		g.load = 0
	case 1, 2:
		g.load = float64(g.between(0, 30)) / 2
	case 3, 4, 5:
		g.load = float64(max(1, g.fleet.living)) * 2.5 * g.Float64()
	default:
		g.load = max(0, g.load*(0.85+0.3*g.Float64())+0.2*g.Float64()-0.1)
	}
}

// follow moves the fleet towards the replicas asked for.
func (g *generator) follow(step *Step) {
	f, t := &g.fleet, step.T
	wanted := int(min(step.SpecReplicas, crowd))
	if g.chance(g.family.lag) {
		wanted = max(0, wanted+g.between(-3, 3))
	}
	var alive []*member
	living := 0
	for _, pod := range f.pods {
		if pod.gone != 0 && pod.gone <= t {
			continue
		}
		if pod.Deletion == nil {
			living++
		}
		if pod.Phase == "Pending" && pod.runs <= t {
			pod.Phase = "Running"
			pod.Start = ptr(pod.runs)
			pod.Ready, pod.ReadyTransition = false, ptr(pod.runs)
		}
		if pod.Phase == "Running" && pod.Ready == false && pod.becomesReady <= t {
			pod.Ready, pod.ReadyTransition = true, ptr(pod.becomesReady)
		}
		alive = append(alive, pod)
	}
	for _, pod := range alive {
		if living <= wanted {
			break
		}
		if pod.Deletion == nil {
			pod.Deletion = ptr(t + int64(g.between(-1, 30)))
			pod.gone = t + int64(g.between(1, 45))
			living--
		}
	}
	for living < wanted {
		alive = append(alive, g.create(t))
		living++
	}
	f.pods, f.living = alive, living
	step.StatusReplicas = int32(living)
	if step.SpecReplicas > crowd {
		step.StatusReplicas = step.SpecReplicas
	}
	if g.chance(g.family.lag) {
		step.StatusReplicas = max(0, step.StatusReplicas+int32(g.between(-2, 2)))
	}
	step.Pods = []Pod{}
	for _, pod := range alive {
		seen := pod.Pod
		if g.chance(g.family.mess) {
			g.disturb(&seen, t)
			if g.chance(0.5) {
				pod.Pod = seen
			}
		}
		if seen.ReadyTransition != nil && seen.Ready == nil {
			seen.ReadyTransition = nil
		}
		step.Pods = append(step.Pods, seen)
	}
}

func (g *generator) create(t int64) *member {
	pod := &member{}
	pod.Name = fmt.Sprintf("p%d", g.fleet.created)
	g.fleet.created++
	pod.Phase = "Pending"
	if g.chance(0.5) {
		pod.Ready, pod.ReadyTransition = false, ptr(t)
		pod.Start = ptr(t)
	}
	pod.runs = t + int64(g.between(-1, 40))
	pod.becomesReady = pod.runs + int64(pick(g.dice, []int{0, 1, 5, 10, 29, 30, 31, 60, 120, 290, 300, 310}))
	if t == 0 {
		// Those that were there before.
		pod.Phase = "Running"
		pod.Start = ptr(-int64(g.between(0, 700)))
		pod.Ready, pod.ReadyTransition = true, ptr(*pod.Start+int64(g.between(0, 60)))
	}
	if g.chance(g.family.override) {
		pod.Containers = g.containers(g.chance(0.3))
	}
	return pod
}

// disturb puts a pod into some state, likely or not.
func (g *generator) disturb(pod *Pod, t int64) {
	around := func() *int64 {
		if g.chance(0.15) {
			return nil
		}
		return ptr(t - int64(g.between(-20, 700)))
	}
	switch g.between(0, 5) {
	case 0:
		pod.Phase = pick(g.dice, []string{"Pending", "Running", "Succeeded", "Failed", "Unknown"})
	case 1:
		pod.Ready = pick(g.dice, []any{nil, true, false, "Unknown"})
	case 2:
		pod.ReadyTransition = around()
		if g.chance(0.5) {
			pod.Ready = false
		}
	case 3:
		pod.Start = around()
	case 4:
		pod.Deletion = around()
	default:
		pod.Phase = pick(g.dice, []string{"Pending", "Running", "Running", "Succeeded", "Failed", "Unknown"})
		pod.Ready = pick(g.dice, []any{nil, true, false, false, "Unknown"})
		pod.Start, pod.ReadyTransition = around(), around()
	}
}
