// Records what KEDA's own executor and fallback do on random scenarios, or replays recorded ones.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"testing"
)

func main() {
	testing.Init()
	out := flag.String("out", "", "the `folder` that scenarios are recorded to")
	scenarios := flag.Int("scenarios", 100, "how many scenarios to record")
	seed := flag.Uint64("seed", 1, "what the scenarios are drawn from")
	replayed := flag.String("replay", "", "a recorded `file` whose outcomes are reproduced and compared")
	flag.Parse()

	// Virtual time is only to be had inside a test.
	everything := func(string, string) (bool, error) { return true, nil }
	test := testing.InternalTest{Name: "record", F: func(t *testing.T) {
		var err error
		switch {
		case *replayed != "":
			err = replayFile(t, *replayed)
		case *out != "":
			err = recordFile(t, fmt.Sprintf("%s/keda-%d.jsonl", *out, *seed), *seed, *scenarios)
		default:
			err = fmt.Errorf("neither -out nor -replay is given")
		}
		if err != nil {
			t.Error(err)
		}
	}}
	testing.Main(everything, []testing.InternalTest{test}, nil, nil)
}

// runnable is a scenario of either kind.
type runnable interface {
	run(t *testing.T)
	// outcomes are what a replay must reproduce, one for each step.
	outcomes() []any
}

// read takes a line for what its kind says.
func read(line []byte) (runnable, error) {
	var head struct{ Kind string }
	if err := json.Unmarshal(line, &head); err != nil {
		return nil, err
	}
	var scenario runnable
	switch head.Kind {
	case "executor":
		scenario = &Executor{}
	case "fallback":
		scenario = &Fallback{}
	default:
		return nil, fmt.Errorf("kind %q is neither executor nor fallback", head.Kind)
	}
	return scenario, json.Unmarshal(line, scenario)
}

func replayFile(t *testing.T, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<30)
	var scenarios, steps, different int
	for lines.Scan() {
		recorded, err := read(lines.Bytes())
		if err != nil {
			return err
		}
		fresh, err := read(lines.Bytes())
		if err != nil {
			return err
		}
		fresh.run(t)
		scenarios++
		got := fresh.outcomes()
		for i, want := range recorded.outcomes() {
			steps++
			if reflect.DeepEqual(want, got[i]) {
				continue
			}
			if different++; different <= 10 {
				name, _, _ := bytes.Cut(lines.Bytes(), []byte(","))
				w, _ := json.Marshal(want)
				g, _ := json.Marshal(got[i])
				fmt.Printf("%s outcome %d: recorded %s, now %s\n", name, i, w, g)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	fmt.Printf("%s: %d scenarios, %d steps replayed, %d differ\n", path, scenarios, steps, different)
	if different > 0 {
		return fmt.Errorf("%d steps differ", different)
	}
	return nil
}

func recordFile(t *testing.T, path string, seed uint64, count int) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	buffered := bufio.NewWriter(file)
	encoder := json.NewEncoder(buffered)
	steps := 0
	for i := range count {
		scenario := generate(seed, i)
		scenario.run(t)
		if err := encoder.Encode(scenario); err != nil {
			return err
		}
		steps += len(scenario.outcomes())
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	fmt.Printf("%s: %d scenarios, %d steps recorded\n", path, count, steps)
	return nil
}
