package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/scale"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/pkg/controller/podautoscaler"
	"k8s.io/kubernetes/pkg/controller/podautoscaler/metrics"
)

const selector = "app=target"

// record runs the real controller over the scenario in virtual time. With `generate`, a step's inputs are
// made right before its reconcile, from what the controller has done so far; otherwise they are as given.
func record(t *testing.T, scenario *Scenario, generate func(step *Step, replicas int32)) error {
	var err error
	synctest.Test(t, func(*testing.T) { err = run(scenario, generate) })
	return err
}

func run(scenario *Scenario, generate func(step *Step, replicas int32)) error {
	hpa, spec, err := admit(scenario.HPA)
	if err != nil {
		return err
	}
	scenario.DefaultedSpec = spec
	hpa.Generation = 1
	updates := make([]*autoscalingv2.HorizontalPodAutoscaler, len(scenario.Steps))
	for i := range scenario.Steps {
		step := &scenario.Steps[i]
		if step.HPA == nil {
			continue
		}
		if updates[i], step.DefaultedSpec, err = admit(step.HPA); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}

	ctx, cancel := context.WithCancel(context.Background())
	client := fake.NewSimpleClientset(hpa)
	client.PrependReactor("*", "events", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, &corev1.Event{}, nil
	})
	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods()
	world := &world{scenario: scenario, generate: generate, pods: pods.Informer().GetIndexer(), spec: &hpa.Spec}
	world.metrics.origin = time.Now()
	config := scenario.Config
	seconds := func(n int64) time.Duration { return time.Duration(n) * time.Second }
	controller := podautoscaler.NewHorizontalController(
		ctx, client.CoreV1(), world, client.AutoscalingV2(), mapper{},
		metrics.NewRESTMetricsClient(&world.metrics, customAPI{&world.metrics}, externalAPI{&world.metrics}),
		factory.Autoscaling().V2().HorizontalPodAutoscalers(), pods,
		seconds(config.SyncPeriodSeconds), seconds(config.DownscaleStabilizationSeconds), config.Tolerance,
		seconds(config.CPUInitializationPeriodSeconds), seconds(config.InitialReadinessDelaySeconds),
	)
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	done := make(chan struct{})
	defer func() {
		cancel()
		<-done
		factory.Shutdown()
		synctest.Wait()
	}()
	go func() {
		defer close(done)
		controller.Run(ctx, 1)
	}()

	hpas := client.AutoscalingV2().HorizontalPodAutoscalers(metav1.NamespaceDefault)
	for i := range scenario.Steps {
		step := &scenario.Steps[i]
		at := world.metrics.origin.Add(seconds(step.T))
		time.Sleep(time.Until(at))
		if updates[i] != nil {
			current, err := hpas.Get(ctx, hpa.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			current = current.DeepCopy()
			current.Spec = updates[i].Spec
			current.Generation++
			world.spec = &updates[i].Spec
			if _, err := hpas.Update(ctx, current, metav1.UpdateOptions{}); err != nil {
				return err
			}
		}
		// Past the instant itself: everything due at it has then been started, and is waited for.
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if world.next != i+1 {
			return fmt.Errorf("t=%d: %d reconciles, expected %d", step.T, world.next, i+1)
		}
		current, err := hpas.Get(ctx, hpa.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		step.Expect = expectation(&current.Status, world)
	}
	return nil
}

func expectation(status *autoscalingv2.HorizontalPodAutoscalerStatus, world *world) Expect {
	expect := Expect{
		ScaleUpdate:           world.update,
		DesiredReplicas:       world.replicas,
		StatusCurrentReplicas: status.CurrentReplicas,
		StatusDesiredReplicas: status.DesiredReplicas,
		Conditions:            map[string]string{},
	}
	for _, condition := range status.Conditions {
		expect.Conditions[string(condition.Type)] = fmt.Sprintf("%s/%s", condition.Status, condition.Reason)
	}
	for _, metric := range status.CurrentMetrics {
		expect.Observed = append(expect.Observed, observed(metric))
	}
	return expect
}

func observed(metric autoscalingv2.MetricStatus) *int64 {
	var value autoscalingv2.MetricValueStatus
	switch {
	case metric.Object != nil:
		value = metric.Object.Current
	case metric.Pods != nil:
		value = metric.Pods.Current
	case metric.Resource != nil:
		value = metric.Resource.Current
	case metric.ContainerResource != nil:
		value = metric.ContainerResource.Current
	case metric.External != nil:
		value = metric.External.Current
	}
	switch {
	case value.AverageUtilization != nil:
		return ptr(int64(*value.AverageUtilization))
	case value.AverageValue != nil:
		return ptr(value.AverageValue.MilliValue())
	case value.Value != nil:
		return ptr(value.Value.MilliValue())
	}
	return nil
}

// world is everything the controller sees of the cluster. Reading the scale begins a reconcile.
type world struct {
	scenario *Scenario
	generate func(step *Step, replicas int32)
	pods     cache.Indexer
	metrics  metricsAPI
	spec     *autoscalingv2.HorizontalPodAutoscalerSpec
	next     int
	replicas int32
	update   *int32
	failed   bool
}

var (
	errGet    = errors.New("reading the scale failed")
	errUpdate = errors.New("writing the scale failed")
)

// Scales is the scale subresource of every kind.
func (w *world) Scales(string) scale.ScaleInterface { return scales{world: w} }

type scales struct {
	scale.ScaleInterface
	world *world
}

func (s scales) Get(context.Context, schema.GroupResource, string, metav1.GetOptions) (*autoscalingv1.Scale, error) {
	w := s.world
	if w.failed {
		// Read again after a failed write, within the same reconcile.
		w.failed = false
		return nil, errGet
	}
	if w.next >= len(w.scenario.Steps) {
		return nil, errGet
	}
	step := &w.scenario.Steps[w.next]
	w.next++
	w.update = nil
	if w.generate != nil {
		w.generate(step, w.replicas)
	}
	w.replicas = step.SpecReplicas
	w.metrics.begin(w.spec, step.Metrics)
	objects := make([]any, len(step.Pods))
	for i, pod := range step.Pods {
		objects[i] = w.pod(pod)
	}
	if err := w.pods.Replace(objects, ""); err != nil {
		return nil, err
	}
	if step.GetScaleError != "" {
		return nil, errGet
	}
	return &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{Name: "target", Namespace: metav1.NamespaceDefault},
		Spec:       autoscalingv1.ScaleSpec{Replicas: step.SpecReplicas},
		Status:     autoscalingv1.ScaleStatus{Replicas: step.StatusReplicas, Selector: selector},
	}, nil
}

func (s scales) Update(
	_ context.Context, _ schema.GroupResource, scale *autoscalingv1.Scale, _ metav1.UpdateOptions,
) (*autoscalingv1.Scale, error) {
	w := s.world
	w.update = ptr(scale.Spec.Replicas)
	if w.scenario.Steps[w.next-1].UpdateScaleError != "" {
		w.failed = true
		return nil, errUpdate
	}
	w.replicas = scale.Spec.Replicas
	return scale, nil
}

func (w *world) at(seconds *int64) *metav1.Time {
	if seconds == nil {
		return nil
	}
	return &metav1.Time{Time: w.metrics.origin.Add(time.Duration(*seconds) * time.Second)}
}

func (w *world) pod(pod Pod) *corev1.Pod {
	object := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name:              pod.Name,
			Namespace:         metav1.NamespaceDefault,
			Labels:            map[string]string{"app": "target"},
			DeletionTimestamp: w.at(pod.Deletion),
		},
		Status: corev1.PodStatus{Phase: corev1.PodPhase(pod.Phase), StartTime: w.at(pod.Start)},
	}
	if pod.Ready != nil {
		condition := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionUnknown}
		switch pod.Ready {
		case true:
			condition.Status = corev1.ConditionTrue
		case false:
			condition.Status = corev1.ConditionFalse
		}
		if since := w.at(pod.ReadyTransition); since != nil {
			condition.LastTransitionTime = *since
		}
		object.Status.Conditions = []corev1.PodCondition{condition}
	}
	containers := pod.Containers
	if containers == nil {
		containers = w.scenario.Containers
	}
	for _, container := range containers {
		requests := corev1.ResourceList{}
		for name, value := range container.Requests {
			requests[corev1.ResourceName(name)] = milli(value)
		}
		spec := corev1.Container{Name: container.Name, Resources: corev1.ResourceRequirements{Requests: requests}}
		if container.Sidecar {
			spec.RestartPolicy = ptr(corev1.ContainerRestartPolicyAlways)
			object.Spec.InitContainers = append(object.Spec.InitContainers, spec)
		} else {
			object.Spec.Containers = append(object.Spec.Containers, spec)
		}
	}
	return object
}

// mapper knows every kind under one resource name.
type mapper struct{ apimeta.RESTMapper }

func (mapper) RESTMappings(kind schema.GroupKind, _ ...string) ([]*apimeta.RESTMapping, error) {
	resource := schema.GroupVersionResource{Group: kind.Group, Version: "v1", Resource: "targets"}
	return []*apimeta.RESTMapping{{Resource: resource, GroupVersionKind: kind.WithVersion("v1")}}, nil
}

// replay runs a recorded scenario's inputs and names the steps whose outcome is another.
func replay(t *testing.T, line []byte) (steps int, differences []string, err error) {
	var recorded, fresh Scenario
	if err := json.Unmarshal(line, &recorded); err != nil {
		return 0, nil, err
	}
	if err := json.Unmarshal(line, &fresh); err != nil {
		return 0, nil, err
	}
	if err := record(t, &fresh, nil); err != nil {
		return 0, nil, fmt.Errorf("%s: %w", recorded.Name, err)
	}
	for i, step := range recorded.Steps {
		if got := fresh.Steps[i].Expect; !reflect.DeepEqual(comparable(step), comparable(fresh.Steps[i])) {
			want, _ := json.Marshal(step.Expect)
			have, _ := json.Marshal(got)
			differences = append(differences, fmt.Sprintf("%s t=%d: recorded %s, now %s", recorded.Name, step.T, want, have))
		}
	}
	return len(recorded.Steps), differences, nil
}

// comparable leaves out a list of observations that holds nothing.
func comparable(step Step) Expect {
	expect := step.Expect
	for _, value := range expect.Observed {
		if value != nil {
			return expect
		}
	}
	expect.Observed = nil
	return expect
}
