// Records what Knative's own autoscaler decides on random scenarios, or replays recorded ones.
package main

import (
	"bufio"
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
	scenarios := flag.Int("scenarios", 100, "how many scenarios to record, of each kind")
	seed := flag.Uint64("seed", 1, "what the scenarios are drawn from")
	replayed := flag.String("replay", "", "a recorded `file` of decisions that are reproduced and compared")
	flag.Parse()

	// Virtual time is only to be had inside a test.
	everything := func(string, string) (bool, error) { return true, nil }
	test := testing.InternalTest{Name: "record", F: func(t *testing.T) {
		var err error
		switch {
		case *replayed != "":
			err = replayFile(t, *replayed)
		case *out != "":
			err = recordFiles(t, *out, *seed, *scenarios)
		default:
			err = fmt.Errorf("neither -out nor -replay is given")
		}
		if err != nil {
			t.Error(err)
		}
	}}
	testing.Main(everything, []testing.InternalTest{test}, nil, nil)
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
		var recorded, fresh Scenario
		if err := json.Unmarshal(lines.Bytes(), &recorded); err != nil {
			return err
		}
		if err := json.Unmarshal(lines.Bytes(), &fresh); err != nil {
			return err
		}
		record(t, &fresh, nil)
		scenarios++
		steps += len(recorded.Steps)
		for i, step := range recorded.Steps {
			if !reflect.DeepEqual(step.Expect, fresh.Steps[i].Expect) {
				if different++; different <= 10 {
					fmt.Printf("%s t=%v: recorded %+v, now %+v\n", recorded.Name, step.T, step.Expect, fresh.Steps[i].Expect)
				}
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

func recordFiles(t *testing.T, folder string, seed uint64, count int) error {
	steps := 0
	err := write(fmt.Sprintf("%s/kpa-%d.jsonl", folder, seed), count, func(i int) any {
		scenario := generate(t, seed, i)
		steps += len(scenario.Steps)
		return scenario
	})
	if err != nil {
		return err
	}
	fmt.Printf("kpa: %d scenarios, %d steps recorded\n", count, steps)
	path := fmt.Sprintf("%s/kpa-spec-%d.jsonl", folder, seed)
	if err := write(path, count, func(i int) any { return convert(seed, i) }); err != nil {
		return err
	}
	fmt.Printf("kpa-spec: %d conversions recorded\n", count)
	path = fmt.Sprintf("%s/kpa-window-%d.jsonl", folder, seed)
	if err := write(path, count, func(i int) any { return window(t, seed, i) }); err != nil {
		return err
	}
	fmt.Printf("kpa-window: %d windows recorded\n", count)
	return nil
}

func write(path string, count int, make func(i int) any) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	buffered := bufio.NewWriter(file)
	encoder := json.NewEncoder(buffered)
	for i := range count {
		if err := encoder.Encode(make(i)); err != nil {
			return err
		}
	}
	return buffered.Flush()
}
