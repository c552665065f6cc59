package main

import (
	"context"
	"errors"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	custom "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	external "k8s.io/metrics/pkg/apis/external_metrics/v1beta1"
	podmetrics "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	resourceclient "k8s.io/metrics/pkg/client/clientset/versioned/typed/metrics/v1beta1"
	customclient "k8s.io/metrics/pkg/client/custom_metrics"
	externalclient "k8s.io/metrics/pkg/client/external_metrics"
)

var errQuery = errors.New("the metric's query failed")

// metricsAPI answers the controller's queries. The controller asks once for each metric of the
// specification, in order, so the answer's index is a matter of counting.
type metricsAPI struct {
	origin  time.Time
	spec    *autoscalingv2.HorizontalPodAutoscalerSpec
	answers []Metric
	next    int
}

// begin starts a reconcile.
func (m *metricsAPI) begin(spec *autoscalingv2.HorizontalPodAutoscalerSpec, answers []Metric) {
	m.spec, m.answers, m.next = spec, answers, 0
}

// answer is the one to the current query; metrics that the controller refuses unasked are passed over.
func (m *metricsAPI) answer() (autoscalingv2.MetricSpec, Metric, error) {
	for m.next < len(m.spec.Metrics) && !isQueried(m.spec.Metrics[m.next]) {
		m.next++
	}
	index := m.next
	m.next++
	if index >= len(m.spec.Metrics) {
		panic("more queries than metrics")
	}
	if index >= len(m.answers) || m.answers[index].Error != "" {
		return m.spec.Metrics[index], Metric{}, errQuery
	}
	return m.spec.Metrics[index], m.answers[index], nil
}

// isQueried is false for an Object metric whose target's type and value disagree.
func isQueried(metric autoscalingv2.MetricSpec) bool {
	if metric.Type != autoscalingv2.ObjectMetricSourceType {
		return true
	}
	target := metric.Object.Target
	return target.Type == autoscalingv2.ValueMetricType && target.Value != nil ||
		target.Type == autoscalingv2.AverageValueMetricType && target.AverageValue != nil
}

func (m *metricsAPI) timestamp(metric Metric, pod string) metav1.Time {
	if seconds, found := metric.Timestamps[pod]; found {
		return metav1.NewTime(m.origin.Add(time.Duration(seconds) * time.Second))
	}
	if metric.Timestamp != nil {
		return metav1.NewTime(m.origin.Add(time.Duration(*metric.Timestamp) * time.Second))
	}
	return metav1.Now()
}

func (metric Metric) window() time.Duration {
	if metric.Window != nil {
		return time.Duration(*metric.Window) * time.Second
	}
	return time.Minute
}

func milli(value int64) resource.Quantity {
	return *resource.NewMilliQuantity(value, resource.DecimalSI)
}

// PodMetricses is the resource metrics API.
func (m *metricsAPI) PodMetricses(string) resourceclient.PodMetricsInterface {
	return podMetrics{api: m}
}

type podMetrics struct {
	resourceclient.PodMetricsInterface
	api *metricsAPI
}

func (p podMetrics) List(context.Context, metav1.ListOptions) (*podmetrics.PodMetricsList, error) {
	spec, metric, err := p.api.answer()
	if err != nil {
		return nil, err
	}
	list := &podmetrics.PodMetricsList{}
	for name, value := range metric.Pods {
		item := podmetrics.PodMetrics{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: metav1.NamespaceDefault},
			Timestamp:  p.api.timestamp(metric, name),
			Window:     metav1.Duration{Duration: metric.window()},
		}
		usage := func(container string, resource corev1.ResourceName, value int64) {
			usage := corev1.ResourceList{resource: milli(value)}
			item.Containers = append(item.Containers, podmetrics.ContainerMetrics{Name: container, Usage: usage})
		}
		if spec.Type == autoscalingv2.ContainerResourceMetricSourceType {
			// Another container's usage must not be counted.
			usage("another", spec.ContainerResource.Name, 12345)
			usage(spec.ContainerResource.Container, spec.ContainerResource.Name, value)
		} else {
			usage("first", spec.Resource.Name, value/3)
			usage("second", spec.Resource.Name, value-value/3)
		}
		list.Items = append(list.Items, item)
	}
	return list, nil
}

// RootScopedMetrics is the custom metrics API, of namespaces.
func (m *metricsAPI) RootScopedMetrics() customclient.MetricsInterface { return customMetrics{m} }

// customAPI and externalAPI are views: both have a method of the same name.
type customAPI struct{ *metricsAPI }

func (c customAPI) NamespacedMetrics(string) customclient.MetricsInterface {
	return customMetrics{c.metricsAPI}
}

type externalAPI struct{ *metricsAPI }

func (e externalAPI) NamespacedMetrics(string) externalclient.MetricsInterface {
	return externalMetrics{e.metricsAPI}
}

type customMetrics struct{ api *metricsAPI }

func (c customMetrics) GetForObject(schema.GroupKind, string, string, labels.Selector) (*custom.MetricValue, error) {
	_, metric, err := c.api.answer()
	if err != nil {
		return nil, err
	}
	if metric.Value == nil {
		return nil, errQuery
	}
	return &custom.MetricValue{Value: milli(*metric.Value), Timestamp: metav1.Now()}, nil
}

func (c customMetrics) GetForObjects(
	schema.GroupKind, labels.Selector, string, labels.Selector,
) (*custom.MetricValueList, error) {
	_, metric, err := c.api.answer()
	if err != nil {
		return nil, err
	}
	list := &custom.MetricValueList{}
	for name, value := range metric.Pods {
		list.Items = append(list.Items, custom.MetricValue{
			DescribedObject: corev1.ObjectReference{Kind: "Pod", Name: name, Namespace: metav1.NamespaceDefault},
			Timestamp:       c.api.timestamp(metric, name),
			WindowSeconds:   metric.Window,
			Value:           milli(value),
		})
	}
	return list, nil
}

type externalMetrics struct{ api *metricsAPI }

func (e externalMetrics) List(string, labels.Selector) (*external.ExternalMetricValueList, error) {
	_, metric, err := e.api.answer()
	if err != nil {
		return nil, err
	}
	list := &external.ExternalMetricValueList{}
	for _, value := range metric.Values {
		list.Items = append(list.Items, external.ExternalMetricValue{Value: milli(value), Timestamp: metav1.Now()})
	}
	return list, nil
}
