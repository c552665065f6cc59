//! AWS: Auto Scaling groups as fleets, CloudWatch and SQS as signals, scaling policies.
