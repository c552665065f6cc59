package main

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"knative.dev/serving/pkg/autoscaler/aggregation"
	"knative.dev/serving/pkg/autoscaler/aggregation/max"
)

// Window is one window over time, and what was read from it.
type Window struct {
	Name           string  `json:"name"`
	KnativeVersion string  `json:"knativeVersion"`
	Algorithm      string  `json:"algorithm"`
	WindowSeconds  float64 `json:"windowSeconds"`
	Ops            []Op    `json:"ops"`
}

// Op is something done to a window; `expect` is what was read.
type Op struct {
	Op            string   `json:"op"`
	T             *float64 `json:"t,omitempty"`
	Value         *float64 `json:"value,omitempty"`
	WindowSeconds *float64 `json:"windowSeconds,omitempty"`
	Expect        any      `json:"expect,omitempty"`
}

// epoch is where virtual time starts.
var epoch = time.Unix(946684800, 0)

// window draws one window's life and records it, in virtual time: resizing looks at the clock.
func window(t *testing.T, seed uint64, index int) *Window {
	var drawn *Window
	synctest.Test(t, func(*testing.T) { drawn = live(seed, index) })
	return drawn
}

func live(seed uint64, index int) *Window {
	d := dice{rand.New(rand.NewPCG(seed, 2<<32+uint64(index)))}
	w := &Window{
		Name:           fmt.Sprintf("window-%d-%d", seed, index),
		KnativeVersion: "v0.51.0",
		Algorithm:      pick(d, []string{"linear", "weightedExponential", "max"}),
		WindowSeconds:  pick(d, []float64{6, 7, 10, 30, 60, 61, 120, 600}),
	}
	at := float64(d.between(0, 20)) / 4
	advance := func() {
		at += pick(d, []float64{0, 0.25, 0.5, 1, 1, 1, 2, 2, 3, 7.75, 20, 61, 300})
	}
	if w.Algorithm == "max" {
		w.WindowSeconds = pick(d, []float64{2, 3, 6, 15, 30, 31, 600})
		w.maxima(d, advance, &at)
	} else {
		w.averages(d, advance, &at)
	}
	return w
}

func (w *Window) maxima(d dice, advance func(), at *float64) {
	window := max.NewTimeWindow(seconds(w.WindowSeconds), 2*time.Second)
	for range d.between(20, 150) {
		advance()
		t, value := *at, float64(d.between(-2, 30))
		window.Record(epoch.Add(seconds(t)), int32(value))
		w.Ops = append(w.Ops, Op{Op: "record", T: &t, Value: &value}, Op{Op: "current", Expect: window.Current()})
	}
}

func (w *Window) averages(d dice, advance func(), at *float64) {
	type buckets interface {
		Record(now time.Time, value float64)
		WindowAverage(now time.Time) float64
		IsEmpty(now time.Time) bool
		ResizeWindow(window time.Duration)
	}
	var window buckets
	if w.Algorithm == "linear" {
		window = aggregation.NewTimedFloat64Buckets(seconds(w.WindowSeconds), time.Second)
	} else {
		window = aggregation.NewWeightedFloat64Buckets(seconds(w.WindowSeconds), time.Second)
	}
	for range d.between(20, 200) {
		advance()
		t := *at
		switch d.between(0, 9) {
		case 0:
			w.Ops = append(w.Ops, Op{Op: "isEmpty", T: &t, Expect: window.IsEmpty(epoch.Add(seconds(t)))})
		case 1, 2, 3:
			w.Ops = append(w.Ops, Op{Op: "average", T: &t, Expect: window.WindowAverage(epoch.Add(seconds(t)))})
		case 4:
			if d.chance(0.1) {
				resized := pick(d, []float64{6, 8, 30, 60, 90, 600})
				time.Sleep(time.Until(epoch.Add(seconds(t))))
				window.ResizeWindow(seconds(resized))
				w.Ops = append(w.Ops, Op{Op: "resize", T: &t, WindowSeconds: &resized})
			}
		default:
			if d.chance(0.1) {
				t -= float64(d.between(0, 80)) / 4
			}
			value := pick(d, []float64{0, 1, 0.5, 10, 100 * d.Float64(), 1e6 * d.Float64(), 1e-7})
			window.Record(epoch.Add(seconds(t)), value)
			w.Ops = append(w.Ops, Op{Op: "record", T: &t, Value: &value})
		}
	}
}
