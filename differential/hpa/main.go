// Records what Kubernetes' own HPA controller decides on random scenarios, or replays recorded ones.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"testing"

	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/klog/v2"
)

func main() {
	testing.Init()
	out := flag.String("out", "", "the `folder` that scenarios are recorded to")
	scenarios := flag.Int("scenarios", 100, "how many scenarios to record")
	seed := flag.Uint64("seed", 1, "what the scenarios are drawn from")
	replayed := flag.String("replay", "", "a recorded `file` whose outcomes are reproduced and compared")
	logs := flag.NewFlagSet("logs", flag.ContinueOnError)
	klog.InitFlags(logs)
	_ = logs.Set("logtostderr", "false")
	_ = logs.Set("stderrthreshold", "FATAL")
	klog.SetOutput(discard{})
	// The default handlers sleep between two errors, which would move every later reconcile.
	utilruntime.ErrorHandlers = nil
	flag.Parse()

	var err error
	// Virtual time is only to be had inside a test.
	everything := func(string, string) (bool, error) { return true, nil }
	test := testing.InternalTest{Name: "record", F: func(t *testing.T) {
		switch {
		case *replayed != "":
			err = replayFile(t, *replayed)
		case *out != "":
			err = recordFile(t, fmt.Sprintf("%s/hpa-%d.jsonl", *out, *seed), *seed, *scenarios)
		default:
			err = fmt.Errorf("neither -out nor -replay is given")
		}
		if err != nil {
			t.Error(err)
		}
	}}
	testing.Main(everything, []testing.InternalTest{test}, nil, nil)
}

type discard struct{}

func (discard) Write(text []byte) (int, error) { return len(text), nil }

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
		count, differences, err := replay(t, lines.Bytes())
		if err != nil {
			return err
		}
		scenarios++
		steps += count
		for _, difference := range differences {
			if different++; different <= 10 {
				fmt.Println(difference)
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
		scenario, err := generate(t, seed, i)
		if err != nil {
			return err
		}
		if err := encoder.Encode(scenario); err != nil {
			return err
		}
		steps += len(scenario.Steps)
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	fmt.Printf("%s: %d scenarios, %d steps recorded\n", path, count, steps)
	return nil
}
