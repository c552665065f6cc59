package main

import (
	"context"
	"errors"

	keda "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/scale"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

var (
	errGet    = errors.New("reading failed")
	errUpdate = errors.New("writing failed")
)

// cluster is everything that KEDA sees of the scale target.
type cluster struct {
	client.Client
	replicas    int32
	readyPods   int
	getFails    bool
	updateFails bool
	written     *int32
}

// Get reads the target itself; nothing else is read but HPAs, which are not there.
func (c *cluster) Get(_ context.Context, _ client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	deployment, isDeployment := object.(*appsv1.Deployment)
	if !isDeployment || c.getFails {
		return errGet
	}
	replicas := c.replicas
	deployment.Spec.Replicas = &replicas
	return nil
}

// List gives the target's pods: as many as are ready, and one that is not.
func (c *cluster) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	pods, isPods := list.(*corev1.PodList)
	if !isPods {
		return errGet
	}
	for i := range c.readyPods + 1 {
		pod := corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning}}
		ready := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue}
		if i == c.readyPods {
			ready.Status = corev1.ConditionFalse
		}
		pod.Status.Conditions = []corev1.PodCondition{ready}
		pods.Items = append(pods.Items, pod)
	}
	return nil
}

// Status accepts every patch: the object in memory is what counts here.
func (c *cluster) Status() client.SubResourceWriter { return statuses{} }

type statuses struct{ client.SubResourceWriter }

func (statuses) Patch(context.Context, client.Object, client.Patch, ...client.SubResourcePatchOption) error {
	return nil
}

// Scales is the target's scale subresource.
func (c *cluster) Scales(string) scale.ScaleInterface { return scales{cluster: c} }

type scales struct {
	scale.ScaleInterface
	cluster *cluster
}

func (s scales) Get(context.Context, schema.GroupResource, string, metav1.GetOptions) (*autoscalingv1.Scale, error) {
	if s.cluster.getFails {
		return nil, errGet
	}
	return &autoscalingv1.Scale{
		Spec:   autoscalingv1.ScaleSpec{Replicas: s.cluster.replicas},
		Status: autoscalingv1.ScaleStatus{Replicas: s.cluster.replicas, Selector: "app=target"},
	}, nil
}

func (s scales) Update(
	_ context.Context, _ schema.GroupResource, scale *autoscalingv1.Scale, _ metav1.UpdateOptions,
) (*autoscalingv1.Scale, error) {
	replicas := scale.Spec.Replicas
	s.cluster.written = &replicas
	if s.cluster.updateFails {
		return nil, errUpdate
	}
	s.cluster.replicas = replicas
	return scale, nil
}

// object is a ScaledObject whose target was found.
func object(spec keda.ScaledObjectSpec) *keda.ScaledObject {
	spec.ScaleTargetRef = &keda.ScaleTarget{Name: "target"}
	return &keda.ScaledObject{
		ObjectMeta: metav1.ObjectMeta{Name: "object", Namespace: "default"},
		Spec:       spec,
		Status: keda.ScaledObjectStatus{
			ScaleTargetKind: "apps/v1.Deployment",
			ScaleTargetGVKR: &keda.GroupVersionKindResource{
				Group: "apps", Version: "v1", Kind: "Deployment", Resource: "deployments",
			},
			Conditions: *keda.GetInitializedConditions(),
		},
	}
}
